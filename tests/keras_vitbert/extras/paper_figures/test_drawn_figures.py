"""Figures of values that are set by hand, against NumPy."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from keras_vitbert.extras.paper_figures import figures
from keras_vitbert.extras.paper_figures.tradeoffs import points_of, tradeoff_figure
from keras_vitbert.inspection.activations import by_preference, co_activation
from keras_vitbert.inspection.values import MaskValues
from keras_vitbert.model.shared_weights import KINDS
from tests.keras_vitbert.extras.paper_figures.test_tradeoffs import run as run_of
from tests.keras_vitbert.inspection.axes import by_label, cells_of, drawn


def with_images(figure):
    return [axes for axes in figure.axes if axes.get_images()]


# --- figure 2 ------------------------------------------------------------------------------------


def test_points_are_the_means():
    values = ("nash", 0.4, 6.0), ("nash", 0.6, 5.0), ("mask", 0.9, 5.9), ("sum", 0.1, 7)
    figure = drawn(tradeoff_figure, points_of([run_of(*v) for v in values]))
    loss = by_label(figure, "mlm_loss")["mlm_loss"]
    marks = {
        tuple(line.get_xydata()[0]): to_hex(line.get_markerfacecolor())
        for line in loss.lines
        if line.get_marker() == "o"
    }
    assert set(marks) == {(0.5, 5.5), (0.9, 5.9), (0.1, 7.0)}
    assert marks[0.1, 7.0] == "#ffffff" and "#ffffff" not in (marks[0.5, 5.5], marks[0.9, 5.9])
    assert loss.yaxis_inverted()  # less is better, and up is better


# --- figure 3 ------------------------------------------------------------------------------------


def test_blocks_that_are_shown():
    assert figures.chosen_blocks("", 12) == [0, 6, 11]
    assert figures.chosen_blocks("all", 3) == [0, 1, 2]
    assert figures.chosen_blocks("2, 0,2", 3) == [0, 2]
    for text in ("3", "x"):
        with pytest.raises(ValueError, match=f"blocks={text}"):
            figures.chosen_blocks(text, 3)


def test_heat_maps_and_curves():
    """Six steps and three blocks; in the last block, text comes to have the images' units."""
    random, activations = np.random.default_rng(0), {}
    for number, step in enumerate((0, 10, 20, 30, 40, 55)):
        image, text = random.gamma(1, 1, (2, 3, 20)).astype(np.float32)
        text[2] += (image[2] - text[2]) * number / 5
        activations[step] = image, text
    figure = drawn(figures.activation_figure, activations, "run", "0,2")
    for axes, step in zip(with_images(figure)[:3], (0, 20, 55), strict=True):
        for place, block in enumerate((0, 2)):
            order = by_preference(*(values[block] for values in activations[55]))
            # Images and text have one scale.
            top = np.percentile([values[block] for values in activations[step]], 99)
            rows = cells_of(axes)[15 * place + np.array([0, 6])]
            expected = np.stack([values[block][order] for values in activations[step]]) / top
            np.testing.assert_allclose(rows, expected)
    measured = [co_activation(*values) for values in activations.values()]
    for name in ("overlap", "correlation"):
        lines = by_label(figure, name)[name].get_lines()[1:]
        for block, line in enumerate(lines):
            assert line.get_xdata().tolist() == list(activations)
            np.testing.assert_allclose(line.get_ydata(), [found[name][block] for found in measured])
        assert len(lines) == 3 and lines[2].get_ydata()[-1] == 1  # the same units in the end


# --- figure 4 ------------------------------------------------------------------------------------


def test_bars_of_blocks_and_kinds():
    random, names = np.random.default_rng(2), ["block_0", "block_1", "final_norm"]
    entries = np.full((3, len(KINDS)), 100)
    cleared = random.integers(0, 90, (2, *entries.shape))
    updates = [MaskValues(step, names, entries, values, {}) for step, values in enumerate(cleared)]
    figure = drawn(figures.sparsity_figure, updates, "run")
    for label, axis in (("blocks", 1), ("kinds", 0)):
        axes = by_label(figure, label)[label]
        for update, bars in zip(cleared, axes.containers, strict=True):
            heights = [bar.get_height() for bar in bars]
            np.testing.assert_allclose(heights, update.mean(axis) / 100)
            places = [bar.get_x() + bar.get_width() / 2 for bar in bars]
            assert np.abs(places - np.arange(len(bars))).max() < 0.5
        assert axes.get_lines()[0].get_ydata()[0] == pytest.approx(cleared[1].mean() / 100)
