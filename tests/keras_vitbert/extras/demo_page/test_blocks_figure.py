"""What the page shows of the blocks: values of attention and of activation."""

import numpy as np
import pytest

pytest.importorskip("gradio", reason="needs gradio")

from keras_vitbert.extras.demo_page.answers import Shown
from keras_vitbert.extras.demo_page.page import ACTIVATION, ATTENTION, blocks_figure
from tests.keras_vitbert.inspection.axes import drawn

pytestmark = pytest.mark.slow  # imports Gradio


def shown(rows, tokens=(), picture=None):
    """Two blocks of three heads with random values."""
    random, length = np.random.default_rng(0), len(tokens) or 5
    attention = {row: random.dirichlet(np.ones(length), (2, 3)) for row in rows}
    return Shown({}, [], attention, random.uniform(1, 2, (2, length)), picture, list(tokens))


def test_a_text():
    it = shown(["mask 1", "mask 2"], tokens="abcd")
    for what, head, expected in (
        (ATTENTION, -1, [values.sum(1) / 3 for values in it.attention.values()]),
        (ATTENTION, 2, [values[:, 2] for values in it.attention.values()]),
        (ACTIVATION, 2, [it.activation]),
    ):
        bars = drawn(blocks_figure, it, what, 1, head).axes[::2]
        for axes, values in zip(bars, expected, strict=True):
            np.testing.assert_allclose([bar.get_height() for bar in axes.patches], values[1])


@pytest.mark.parametrize("what", [ATTENTION, ACTIVATION])
def test_an_image(what):
    it = shown(["the class token"], picture=np.arange(108, dtype=np.uint8).reshape(6, 6, 3))
    figure = drawn(blocks_figure, it, what, 1, 0)
    values = it.attention["the class token"][:, 0] if what == ATTENTION else it.activation
    seen, chosen, *_ = [axes for axes in figure.axes if axes.get_images()]
    np.testing.assert_array_equal(seen.get_images()[0].get_array(), it.picture)
    heat = chosen.get_images()[-1]
    np.testing.assert_array_equal(heat.get_array(), values[1, 1:].reshape(2, 2))
