import pytest

from benchmarks.growth import Growth, exponent


def test_exponent_of_a_power():
    assert exponent([1, 2, 4, 8], [5, 20, 80, 320]) == pytest.approx(2)


def test_cells():
    linear = Growth("time against batch", "s", [1, 2, 4], [0.1, 0.21, 0.41], 1)
    square = Growth("memory against entries", "GB", [1e6, 2e6, 4e7], [1.0, 4.0, 1600.0], 1)
    assert linear.passes and not square.passes
