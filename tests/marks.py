"""Marks of parameters."""

import pytest


def slow(*values):
    """A row of `pytest.mark.parametrize` that is part of `pytest -m slow` only."""
    return pytest.param(*values, marks=pytest.mark.slow)
