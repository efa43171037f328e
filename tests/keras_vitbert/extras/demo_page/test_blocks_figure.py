"""What the page shows of the blocks: values of attention and of activation."""

import numpy as np
import pytest

pytest.importorskip("gradio", reason="needs gradio")

from keras_vitbert.extras.demo_page.answers import Shown
from keras_vitbert.extras.demo_page.page import ACTIVATION, ATTENTION, blocks_figure
from tests.keras_vitbert.inspection.axes import drawn

pytestmark = pytest.mark.slow  # imports Gradio


def shown(rows, length, **options):
    """Two blocks of three heads with random values."""
    random = np.random.default_rng(0)
    attention = {row: random.dirichlet(np.ones(length), (2, 3)) for row in rows}
    return Shown({}, [], attention, random.uniform(1, 2, (2, length)), **options)


def test_a_text():
    it = shown(["mask 1", "mask 2"], 4, tokens=list("abcd"))
    for what, head, expected in (
        (ATTENTION, -1, [values.sum(1) / 3 for values in it.attention.values()]),
        (ATTENTION, 2, [values[:, 2] for values in it.attention.values()]),
        (ACTIVATION, 2, [it.activation]),
    ):
        bars = drawn(blocks_figure, it, what, 1, head).axes[::2]
        for axes, values in zip(bars, expected, strict=True):
            np.testing.assert_allclose([bar.get_height() for bar in axes.patches], values[1])


def test_an_image():
    """Its first token is the class token."""
    it = shown(["the class token"], 5, picture=np.zeros((6, 6, 3), np.uint8))
    figure = drawn(blocks_figure, it, ACTIVATION, 1, 0)
    chosen = [axes for axes in figure.axes if axes.get_images()][1]
    heat = chosen.get_images()[-1].get_array()
    np.testing.assert_array_equal(heat, it.activation[1, 1:].reshape(2, 2))
    for place, culprit in (((2, 0), "block 2"), ((0, 3), "head 3")):
        with pytest.raises(ValueError, match=culprit):  # which the other model has
            blocks_figure(it, ATTENTION, *place)
