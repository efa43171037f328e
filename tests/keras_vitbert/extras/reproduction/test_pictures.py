"""What is drawn of tables that were made up: each mean where it belongs."""

import matplotlib.figure
import numpy as np
import pytest

from keras_vitbert.extras.reproduction import report
from keras_vitbert.extras.reproduction.cells import Filled
from keras_vitbert.extras.reproduction.tables import IC, IMAGES, MEAN, MLM, NSP, TEXT, tables


@pytest.fixture
def panels(tmp_path, monkeypatch):
    """`panels(filled)`: the axes by label."""

    def drawn(filled):
        report.draw(filled, str(tmp_path / "x"))
        assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
        assert all(row.label[0] in (tmp_path / "x.svg").read_text() for row in filled.table.rows)
        return {axes.get_label(): axes for axes in figures[-1].axes}

    figures, made = [], matplotlib.figure.Figure

    def figure(*arguments, **options):
        figures.append(made(*arguments, **options))
        return figures[-1]

    monkeypatch.setattr(report, "Figure", figure)
    return drawn


def made_up(name, columns, seeds, without=()):
    random = np.random.default_rng(0)
    values = [
        {
            column: {} if (place, column) in without else {s: random.random() for s in range(seeds)}
            for column in columns
        }
        for place in range(len(tables({})[name].rows))
    ]
    return Filled(tables({})[name], columns, values, ())


def points_of(axes):
    """The coordinates of the means."""
    lines = [line for line in axes.lines if line.get_marker() == "o"]
    return sorted(tuple(map(float, pair)) for line in lines for pair in line.get_xydata())


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(
    ("name", "columns"), [("table1", (TEXT, IMAGES)), ("table3", (NSP, MLM, IC, MEAN))]
)
def test_a_line_for_each_row(panels, name, columns, seeds):
    filled = made_up(name, columns, seeds)
    for column, axes in panels(filled).items():
        rows = range(len(filled.values))
        expected = [(filled.estimate(place, column).mean, float(place)) for place in rows]
        np.testing.assert_allclose(points_of(axes), sorted(expected))
        assert axes.yaxis_inverted()  # the first row is the uppermost
        names = [label.get_text() for label in axes.get_yticklabels()]
        assert column != columns[0] or names == [row.name for row in filled.table.rows]


def test_a_curve_over_mask_ratios(panels):
    without = {(0, IMAGES), (1, TEXT), (9, TEXT), (9, IMAGES)}  # 0 is by magnitude, 1 and 9 random
    filled = made_up("figure2", (TEXT, IMAGES), 2, without)
    found = panels(filled)
    for column in (TEXT, IMAGES):
        expected = [
            (float(row.label[0]), filled.estimate(place, column).mean)
            for place, row in enumerate(filled.table.rows)
            if (place, column) not in without
        ]
        np.testing.assert_allclose(points_of(found[column]), sorted(expected))
        curves = {bars.get_label(): len(bars[0].get_xdata()) for bars in found[column].containers}
        assert curves == {"magnitude": 5 - (column == IMAGES), "random": 4 - (column == TEXT)}
