"""Ahead-of-time compilation: what a step needs on a TPU, found out on a machine without one."""
