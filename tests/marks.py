"""Marks of parameters."""

import pytest


def slow(*values):
    """A row of `pytest.mark.parametrize` that is part of `pytest -m slow` only."""
    return pytest.param(*values, marks=pytest.mark.slow)


def thorough(*values):
    """A row that is part of `pytest -m thorough` only, of a function without the mark `slow`."""
    return pytest.param(*values, marks=pytest.mark.thorough)
