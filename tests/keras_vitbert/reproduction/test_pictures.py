"""What is drawn of tables that were made up: each mean where it belongs, nothing off the page."""

import numpy as np
import pytest

from keras_vitbert.reproduction import cells
from keras_vitbert.reproduction.experiments import IC, MLM, NSP, experiments
from keras_vitbert.reproduction.pictures import picture_of
from tests.keras_vitbert.inspection.axes import by_label, drawn, texts_of


def made_up(name, columns, seeds, without=()):
    experiment, random = experiments({})[name], np.random.default_rng(0)
    values = {
        place: {
            column: {} if place in without else {s: random.random() for s in range(seeds)}
            for column in columns
        }
        for place in range(len(experiment.rows))
    }
    return cells.Filled(experiment, columns, values)


def points_of(axes):
    """The coordinates of the means."""
    lines = [line for line in axes.lines if line.get_marker() == "o"]
    return sorted(tuple(map(float, line.get_xydata()[0])) for line in lines)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(
    ("name", "columns"),
    [("table1", (cells.TEXT, cells.IMAGES)), ("table3", (NSP, MLM, IC, cells.MEAN))],
)
def test_a_line_for_each_row(name, columns, seeds):
    filled = made_up(name, columns, seeds, without=(2,))
    figure = drawn(picture_of, filled)
    labels = [", ".join(row.label) for row in filled.experiment.rows]
    shown = [label for label in labels if label in texts_of(figure)]
    assert shown == labels[:2] + labels[3:]
    for column in columns[:3]:
        [axes] = by_label(figure, column).values()
        places = [place for place in range(len(labels)) if place != 2]
        expected = [
            (filled.estimate(place, column).mean, float(line)) for line, place in enumerate(places)
        ]
        np.testing.assert_allclose(points_of(axes), sorted(expected))
        assert axes.yaxis_inverted()  # the first row is the uppermost


def test_a_line_over_mask_ratios():
    filled = made_up("figure2", (cells.TEXT, cells.IMAGES), 2, without=(9,))
    figure = drawn(picture_of, filled)
    for column in (cells.TEXT, cells.IMAGES):
        [axes] = by_label(figure, column).values()
        expected = [
            (float(row.label[0]), filled.estimate(place, column).mean)
            for place, row in enumerate(filled.experiment.rows)
            if place != 9
        ]
        np.testing.assert_allclose(points_of(axes), sorted(expected))
        lengths = {line.get_label(): len(line.get_xdata()) for line in axes.lines}
        assert (lengths["magnitude"], lengths["random"]) == (5, 4)


def test_a_row_of_one_modality_is_drawn_there_alone():
    filled = made_up("figure2", (cells.TEXT, cells.IMAGES), 1)
    filled.values[0][cells.IMAGES] = {}  # magnitude; its fine-tuning diverged or is not done yet
    filled.values[1][cells.TEXT] = {}  # random
    figure, counts = drawn(picture_of, filled), {}
    for column in (cells.TEXT, cells.IMAGES):
        [axes] = by_label(figure, column).values()
        lengths = {line.get_label(): len(line.get_xdata()) for line in axes.lines}
        counts[column] = (lengths["magnitude"], lengths["random"])
    assert counts == {cells.TEXT: (5, 4), cells.IMAGES: (4, 5)}


@pytest.mark.parametrize("name", ["table1", "figure2"])
def test_nothing_is_drawn_of_nothing(name):
    rows = range(len(experiments({})[name].rows))
    filled = made_up(name, (cells.TEXT, cells.IMAGES), 1, without=rows)
    assert picture_of(filled) is None and not filled.is_begun
