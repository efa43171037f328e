"""Finds what kind of model is at a path, and opens it."""
