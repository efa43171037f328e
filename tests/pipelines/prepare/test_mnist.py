import numpy as np
import pytest

from pipelines.prepare.mnist import read_mnist


@pytest.fixture(scope="module")
def mnist():
    return read_mnist()


def test_mnist(mnist):
    images, labels = mnist
    assert images.shape == (5000, 28, 28) and images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [500] * 10
    assert images.min() == 0 and images.max() == 255
    # A zero is hollow, a one is not; and rows are rows: digits are taller than wide.
    centre = images[:, 12:16, 12:16].mean(axis=(1, 2))
    assert centre[labels == 0].mean() < 30 < 100 < centre[labels == 1].mean()
    ones = images[labels == 1].mean(axis=0)
    assert (ones.max(axis=1) > 30).sum() > 1.5 * (ones.max(axis=0) > 120).sum()
