"""The values behind Figure 3, set by hand, against NumPy; and that they are what is drawn."""

import numpy as np
import pytest

from keras_vitbert.paper_figures import activation_figure
from pipelines.command_line import UserError
from tests.keras_vitbert.paper_figures.artists import UNITS, by_label


def test_steps_that_are_shown():
    assert activation_figure.chosen_steps([0, 10, 20, 30, 40, 55]) == [0, 30, 55]
    assert activation_figure.chosen_steps([0, 500]) == [0, 500]
    assert activation_figure.chosen_steps([7]) == [7]


def test_blocks_that_are_shown():
    assert activation_figure.chosen_blocks("", 12) == [0, 6, 11]
    assert activation_figure.chosen_blocks("", 1) == [0]
    assert activation_figure.chosen_blocks("all", 3) == [0, 1, 2]
    assert activation_figure.chosen_blocks("2, 0,2", 3) == [0, 2]
    for text in ("3", "-1", "x", "0,,1"):
        with pytest.raises(UserError, match=f"--blocks={text}: must be numbers from 0 to 2"):
            activation_figure.chosen_blocks(text, 3)


def test_heat_maps_and_curves(activations, drawn):
    figure = drawn(activation_figure.draw, activations, "run", "0,2")
    panels = by_label(figure, "step ")
    assert list(panels) == [f"step {s}, block {b}" for s in (0, 30, 55) for b in (0, 2)]
    for block in (0, 2):
        image, text = (values[block].astype(np.float64) for values in activations[55])
        order = sorted(range(UNITS), key=lambda unit: -(image / text)[unit])
        for step in (0, 30, 55):
            rows = panels[f"step {step}, block {block}"].get_images()
            for row, values in zip(rows, activations[step], strict=True):
                np.testing.assert_array_equal(np.asarray(row.get_array())[0], values[block][order])
            assert [row.get_extent()[2:] for row in rows] == [[0.5, -0.5], [1.5, 0.5]]
            # Images and text have one scale, whose end is written beside them.
            ((low, high),) = {row.get_clim() for row in rows}
            top = np.percentile([values[block] for values in activations[step]], 99)
            assert low == 0 and high == pytest.approx(top)
            assert f"{top:.3g}" in [text.get_text() for text in figure.texts]

    top = UNITS // 10
    for name, measure in (
        ("overlap", lambda i, t: len(set(np.argsort(-i)[:top]) & set(np.argsort(-t)[:top])) / top),
        (
            "correlation",
            lambda i, t: np.corrcoef(np.argsort(np.argsort(i)), np.argsort(np.argsort(t)))[0, 1],
        ),
    ):
        lines = by_label(figure, name)[name].get_lines()[1:]
        assert [line.get_label() for line in lines] == ["block 0", "block 1", "block 2"]
        for block, line in enumerate(lines):
            assert line.get_xdata().tolist() == list(activations)
            expected = [measure(i[block], t[block]) for i, t in activations.values()]
            np.testing.assert_allclose(line.get_ydata(), expected, atol=1e-12)
        assert lines[2].get_ydata()[-1] == 1  # the same units in the end


def test_one_step_is_drawn_over_the_blocks(activations, drawn):
    figure = drawn(activation_figure.draw, {40: activations[40]}, "run")
    line = by_label(figure, "overlap")["overlap"].get_lines()[1]
    assert line.get_xdata().tolist() == [0, 1, 2]
    expected = activation_figure.curves(activations)["overlap"][4]
    np.testing.assert_array_equal(line.get_ydata(), expected)


def test_many_blocks_have_a_scale_for_a_legend(drawn):
    random = np.random.default_rng(1)
    values = {step: random.random((2, 24, UNITS)) for step in (0, 1_000_000)}
    figure = drawn(activation_figure.draw, values, "a-very-long-name" * 9)
    colours = [line.get_color() for line in by_label(figure, "overlap")["overlap"].get_lines()]
    assert len(set(colours)) == 25
