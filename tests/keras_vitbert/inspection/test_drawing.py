"""What figures show is read back from their axes: values, scales and numbers."""

import gc
import itertools
import weakref

import matplotlib
import numpy as np
import pytest

from keras_vitbert.inspection import drawing
from keras_vitbert.inspection.activations import by_preference
from keras_vitbert.inspection.values import MaskValues
from keras_vitbert.model.shared_weights import KINDS
from tests.keras_vitbert.inspection.axes import cells_of, drawn
from tests.keras_vitbert.inspection.mask_layers import LAYERS

# --- activations ---------------------------------------------------------------------------------


def rows_of(figure, count):
    """The rows for images and for text of every block, as parts of its scale."""
    cells = cells_of(figure.axes[0])
    assert len(cells) == 15 * count - 3
    for block in range(count):
        image, text = cells[15 * block : 15 * block + 6], cells[15 * block + 6 : 15 * block + 12]
        assert np.all(image == image[:1]) and np.all(text == text[:1])
        yield np.stack([image[0], text[0]])


def test_each_block_is_shown_on_its_own_scale():
    count = 24
    values = np.random.default_rng(0).random((2, count, 96)) * 2.0 ** np.arange(count)[:, None]
    figures = drawing.activation_figures(*values, 500)
    assert list(figures) == [
        f"activations/{n}" for n in ["overview", *map("block_{}".format, (0, 12, 23))]
    ]
    scaled = [pair / np.percentile(pair, 99) for pair in values.swapaxes(0, 1)]
    overview = drawn(lambda: drawing.activation_figures(*values, 500)["activations/overview"])
    for found, expected in zip(rows_of(overview, count), scaled, strict=True):
        np.testing.assert_allclose(found, expected)
    by_index, by_order = rows_of(figures["activations/block_12"], 2)
    np.testing.assert_allclose(by_index, scaled[12])
    np.testing.assert_array_equal(by_order, by_index[:, by_preference(*values[:, 12])])


# --- masks ---------------------------------------------------------------------------------------


def values_of(step, hidden, random, limit):
    """`MaskValues` of one block, and what is kept of its kernels, `(inputs, outputs)`."""
    shapes = dict.fromkeys(("query", "key", "value", "output"), (hidden, hidden))
    shapes |= {"mlp_in": (hidden, 2 * hidden), "mlp_out": (2 * hidden, hidden)}
    kernels = {kind: random.random(shape) > limit for kind, shape in shapes.items()}
    heads = dict.fromkeys(("query", "key", "value"), (hidden, 2, -1)) | {"output": (2, -1, hidden)}
    masks = {
        f"block_0/{LAYERS[kind]}kernel": mask.reshape(heads.get(kind, mask.shape))
        for kind, mask in kernels.items()
    }
    return MaskValues.from_masks(step, masks), kernels


def test_every_cell_is_the_mean_of_its_entries():
    random, hidden, factor, gap = np.random.default_rng(2), 256, 4, 5
    updates = [values_of(20 * n + 1, hidden, random, n / 4) for n in range(3)]
    values = [value for value, _ in updates]
    cells = cells_of(drawn(drawing.mask_figure, values, ["block_0"], 7.1, 144, "a note").axes[0])
    side = hidden // factor
    starts = np.cumsum([0, *[side + gap] * 4, 2 * side + gap])
    for (row, (_, kernels)), (kind, left) in itertools.product(
        enumerate(updates), zip(KINDS, starts, strict=False)
    ):
        mask = kernels[kind]
        mask = mask.T if kind in ("output", "mlp_out") else mask  # the hidden state goes down
        rows, columns = (count // factor for count in mask.shape)
        means = 1 - mask.reshape(rows, factor, columns, factor).mean(axis=(1, 3))
        top = row * (side + gap)
        np.testing.assert_allclose(cells[top : top + rows, left : left + columns], means)
        assert np.all(cells[top : top + rows, left + columns : left + columns + gap] == -1)


@pytest.mark.parametrize("width", [3.3, 7.1])
def test_there_is_no_gap_between_the_masks_of_blocks(width):
    value, _ = values_of(1, 64, np.random.default_rng(2), 0.5)
    wide = np.ones((64, 256), bool)
    value.kept["block_0"].update(mlp_in=wide, mlp_out=wide.T)
    figure = drawn(drawing.mask_figure, [value] * 5, ["block_0"] * 2, width, 100)
    above, below = (axes.get_window_extent() for axes in figure.axes[:2])
    assert (above.y0 - below.y1) / 100 < 0.6  # inches, for a title and the kinds


def test_the_table_of_sparsities(masks):
    values = MaskValues.from_masks(1200, masks)
    axes = drawn(drawing.sparsity_table, values).axes[0]
    cleared, entries = (
        np.block([[table, table.sum(1, keepdims=True)], [table.sum(0), table.sum()]])
        for table in (values.cleared, values.entries)
    )
    with np.errstate(invalid="ignore"):
        expected = cleared / entries
    assert expected.shape == (4, 8) and np.isnan(expected).sum() == 6
    np.testing.assert_array_equal(np.ma.filled(cells_of(axes), np.nan), expected)
    written = {text.get_position()[::-1]: text.get_text() for text in axes.texts}
    assert written == {
        place: f"{share:.1%}" for place, share in np.ndenumerate(expected) if np.isfinite(share)
    }


# --- all -----------------------------------------------------------------------------------------


def test_a_figure_is_the_same_whatever_the_user_has_set(monkeypatch):
    def files():
        with drawing.style():
            figure = drawing.new_figure(2, 1, "$title", "note")
            return [drawing.encoded(figure, kind, "about") for kind in ("png", "svg")]

    expected = files()
    for name, value in (("text.color", "red"), ("figure.facecolor", "black"), ("font.size", 20)):
        monkeypatch.setitem(matplotlib.rcParams, name, value)
    assert files() == expected and b">$title</text>" in expected[1]
    assert matplotlib.rcParams["font.size"] == 20  # and leaves it as it was


def test_what_is_drawn_does_not_stay_in_memory():
    """Python itself looks for cycles the less often, the more objects there are."""
    gc.disable()
    try:
        with drawing.style():
            figures = drawing.activation_figures(*np.eye(8).reshape(2, 4, 8), 5)
            known = [weakref.ref(figure) for figure in figures.values()]
            del figures
        assert len(known) == 4 and not any(reference() for reference in known)
    finally:
        gc.enable()
