"""Fixtures of the tests of models."""

import pytest


@pytest.fixture(scope="session")
def batch(make_batch):
    return make_batch(0)
