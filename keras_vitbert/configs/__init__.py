"""Configs by name."""
