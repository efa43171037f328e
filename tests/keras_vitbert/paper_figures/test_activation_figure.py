"""The values behind Figure 3, set by hand, against NumPy; and that they are what is drawn."""

import numpy as np
import pytest

from keras_vitbert.inspection.co_activation import co_activation
from keras_vitbert.inspection.sheet import colours
from keras_vitbert.paper_figures import activation_figure
from tests.keras_vitbert.paper_figures.artists import UNITS, by_label, images_of, texts_of


def test_blocks_that_are_shown():
    assert activation_figure.chosen_blocks("", 12) == [0, 6, 11]
    assert activation_figure.chosen_blocks("", 1) == [0]
    assert activation_figure.chosen_blocks("all", 3) == [0, 1, 2]
    assert activation_figure.chosen_blocks("2, 0,2", 3) == [0, 2]
    for text in ("3", "-1", "x", "0,,1"):
        with pytest.raises(ValueError, match=f"blocks={text}: .*from 0 to 2"):
            activation_figure.chosen_blocks(text, 3)


def test_heat_maps_and_curves(activations, drawn):
    sheet = drawn(activation_figure.draw, activations, "run", "0,2")
    maps, texts = iter(images_of(sheet)), texts_of(sheet)
    assert [text for text in texts if text[:4] in ("step", "bloc")] == [
        text for step in (0, 20, 55) for text in (f"step {step}", "block 0", "block 2")
    ]
    for step in (0, 20, 55):
        for block in (0, 2):
            image, text = (values[block].astype(np.float64) for values in activations[55])
            order = sorted(range(UNITS), key=lambda unit: -(image / text)[unit])
            # Images and text have one scale, whose end is written beside them.
            top = np.percentile([values[block] for values in activations[step]], 99)
            assert f"{top:.3g}" in texts
            rows = next(maps)
            for half, values in zip(np.split(rows, 2), activations[step], strict=True):
                expected = colours(values[block][order], top)
                np.testing.assert_array_equal(half, np.tile(expected, (len(half), 1, 1)))

    top = UNITS // 10
    for name, measure in (
        ("overlap", lambda i, t: len(set(np.argsort(-i)[:top]) & set(np.argsort(-t)[:top])) / top),
        (
            "correlation",
            lambda i, t: np.corrcoef(np.argsort(np.argsort(i)), np.argsort(np.argsort(t)))[0, 1],
        ),
    ):
        lines = by_label(sheet, name)[name].get_lines()[1:]
        assert [line.get_label() for line in lines] == ["block 0", "block 1", "block 2"]
        for block, line in enumerate(lines):
            assert line.get_xdata().tolist() == list(activations)
            expected = [measure(i[block], t[block]) for i, t in activations.values()]
            np.testing.assert_allclose(line.get_ydata(), expected, atol=1e-12)
        assert lines[2].get_ydata()[-1] == 1  # the same units in the end


def test_one_step_is_drawn_over_the_blocks(activations, drawn):
    sheet = drawn(activation_figure.draw, {40: activations[40]}, "run")
    line = by_label(sheet, "overlap")["overlap"].get_lines()[1]
    assert line.get_xdata().tolist() == [0, 1, 2]
    expected = co_activation(*activations[40])["overlap"]
    np.testing.assert_array_equal(line.get_ydata(), expected)


def test_many_blocks_have_a_scale_for_a_legend(drawn):
    random = np.random.default_rng(1)
    values = {step: random.random((2, 24, UNITS)) for step in (0, 1_000_000)}
    sheet = drawn(activation_figure.draw, values, "a-very-long-name" * 9)
    lines = by_label(sheet, "overlap")["overlap"].get_lines()[1:]
    shown = [tuple(np.rint(255 * line.get_color()[:3])) for line in lines]
    assert len(set(shown)) == 24
    np.testing.assert_array_equal(images_of(sheet)[-1], [shown])
    numbers = [text for text in texts_of(sheet) if text.isdigit() and text not in ("0", "1")]
    assert numbers == ["3", "6", "9", "12", "15", "18", "21"]
