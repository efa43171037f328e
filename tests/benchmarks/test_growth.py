import numpy as np
import pytest

from benchmarks.growth import Growth, exponent, formatted


def test_exponent_is_the_slope_of_the_logarithms():
    rng = np.random.default_rng(0)
    sizes = np.array([2.0, 4.0, 9.0, 16.0, 40.0])
    values = 3 * sizes**1.3 * rng.uniform(0.8, 1.2, 5)
    expected = np.polyfit(np.log(sizes), np.log(values), 1)[0]
    assert exponent(sizes, values) == pytest.approx(expected, rel=1e-12)


def test_exponent_of_a_power():
    assert exponent([1, 2, 4, 8], [5, 20, 80, 320]) == pytest.approx(2)


def test_table():
    linear = Growth("time against batch", "s", [1, 2, 4], [0.1, 0.21, 0.41], 1, "a note")
    square = Growth("memory against entries", "GB", [1e6, 2e6, 4e7], [1.0, 4.0, 1600.0], 1)
    assert linear.passes and not square.passes
    table = formatted([linear, square]).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table[2:4]]
    assert cells[0] == ["time against batch", "1, 2, 4", "0.1, 0.21, 0.41 s", "1.02", "1", "yes"]
    assert cells[1][1:3] == ["1 M, 2 M, 40 M", "1, 4, 1.6e+03 GB"]
    assert cells[1][-1] == "no"
    assert table[4] == "time against batch: a note"
