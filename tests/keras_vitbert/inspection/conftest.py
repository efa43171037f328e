"""Fixtures of the tests of inspection."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def masks(network):
    """Masks of the tiny network by path: every kind of weight of every block in its own measure."""
    random = np.random.default_rng(0)
    return {
        v.path: random.random(v.shape) > (0.1 + 0.05 * number % 0.8)
        for number, v in enumerate(network.backbone.shared_variables)
    }
