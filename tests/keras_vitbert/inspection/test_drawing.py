"""What figures show is read back from their axes: values, scales and letters."""

import gc
import itertools
import weakref

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from keras_vitbert.inspection import drawing
from keras_vitbert.inspection.activations import (
    by_preference,
    overlap,
    rank_correlation,
    scale_top,
)
from keras_vitbert.inspection.values import MaskValues
from keras_vitbert.model.shared_weights import KINDS
from tests.keras_vitbert.inspection.axes import cells_of, drawn, texts_of
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


def activation_figure(image, text, step, tag):
    return drawing.activation_figures(image, text, step)[f"activations/{tag}"]


@pytest.mark.parametrize("units", [1, 1024])
def test_a_blocks_picture_shows_the_values(units):
    image, text = np.random.default_rng(units).random((2, 1, units)).astype(np.float32)
    figure = drawn(activation_figure, image, text, 1500, "block_0")
    image, text, top = image[0], text[0], scale_top([image, text])
    by_index, by_order = rows_of(figure, 2)
    np.testing.assert_allclose(by_index, np.stack([image, text]) / top)
    order = by_preference(image, text)
    np.testing.assert_array_equal(by_order, by_index[:, order])
    shown = texts_of(figure)
    for expected in ("block 0, step 1,500", f"{top:.3g}", f"{overlap(image, text):.2f}"):
        assert expected in shown
    assert f"{rank_correlation(image, text):.2f}" in shown
    prefer = np.sum(image > text), np.sum(image < text)
    assert "sorted: ◂ {} prefer images, {} prefer text ▸".format(*prefer) in shown


def test_the_overview_shows_each_block_on_its_own_scale():
    count = 24
    values = np.random.default_rng(0).random((2, count, 96)) * 2.0 ** np.arange(count)[:, None]
    figure = drawn(activation_figure, *values, 500, "overview")
    shown = texts_of(figure)
    for block, found in enumerate(rows_of(figure, count)):
        pair = values[:, block]
        np.testing.assert_allclose(found, pair / np.percentile(pair, 99))
        assert f"block {block}  images" in shown and f"{np.percentile(pair, 99):.3g}" in shown
    tags = list(drawing.activation_figures(*values, 1))
    assert tags == [f"activations/{n}" for n in ["overview", "block_0", "block_12", "block_23"]]


def test_what_is_not_finite_is_grey():
    values = np.ones((2, 1, 8))
    values[0, 0, 3] = np.nan
    image = drawn(activation_figure, *values, 0, "block_0").axes[0].get_images()[0]
    colours = image.to_rgba(image.get_array())[[0, 6], :, :3]
    assert matplotlib.colors.to_hex(colours[0, 3]) == drawing.UNKNOWN
    np.testing.assert_allclose(colours[1], np.tile(drawing.MAP(1.0)[:3], (8, 1)))


# --- masks ---------------------------------------------------------------------------------------


def values_of(step, hidden, random, limit):
    """`MaskValues` of one block, and what is kept of its kernels, `(inputs, outputs)`."""
    shapes = {
        **dict.fromkeys(("query", "key", "value", "output"), (hidden, hidden)),
        "mlp_in": (hidden, 2 * hidden),
        "mlp_out": (2 * hidden, hidden),
    }
    kernels = {kind: random.random(shape) > limit for kind, shape in shapes.items()}
    heads = dict.fromkeys(("query", "key", "value"), (hidden, 2, -1)) | {"output": (2, -1, hidden)}
    masks = {
        f"block_0/{LAYERS[kind]}kernel": mask.reshape(heads.get(kind, mask.shape))
        for kind, mask in kernels.items()
    }
    return MaskValues.from_masks(step, masks), kernels


@pytest.mark.parametrize(("hidden", "factor", "width"), [(64, 1, drawing.COLUMN), (256, 4, 7.1)])
def test_every_cell_is_the_mean_of_its_entries(hidden, factor, width):
    random = np.random.default_rng(2)
    updates = [values_of(20 * n + 1, hidden, random, n / 4) for n in range(3)]
    values = [value for value, _ in updates]
    figure = drawn(drawing.mask_figure, values, ["block_0"], width, 144, "a note")
    axes = figure.axes[0]
    cells, gap = cells_of(axes), 5
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
        tick = axes.get_xticks()[KINDS.index(kind)], axes.get_yticks()[row]
        assert tick == (left + (columns - 1) / 2, top + (rows - 1) / 2)
    shown = texts_of(figure)
    for value, kernels in updates:
        kept = np.concatenate([mask.ravel() for mask in kernels.values()])
        assert f"step {value.step}" in shown and f"{1 - kept.mean():.1%}" in shown
    cell = "an entry" if factor == 1 else f"the mean of {factor} × {factor} entries"
    assert any(text.startswith(f"a note\na cell: {cell}\n") for text in shown)


def test_the_table_of_sparsities(masks):
    values = MaskValues.from_masks(1200, masks)
    figure = drawn(drawing.sparsity_table, values)
    cleared, entries = (
        np.block([[table, table.sum(1, keepdims=True)], [table.sum(0), table.sum()]])
        for table in (values.cleared, values.entries)
    )
    with np.errstate(invalid="ignore"):
        expected, axes = cleared / entries, figure.axes[0]
    assert expected.shape == (4, 8) and np.isnan(expected).sum() == 6
    np.testing.assert_array_equal(np.ma.filled(cells_of(axes), np.nan), expected)
    names = ["query", "key", "value", "output", "MLP in", "MLP out", "norms", "all"]
    assert [label.get_text() for label in axes.get_xticklabels()] == names
    rows = ["block 0", "block 1", "final norm", "all"]
    assert [label.get_text() for label in axes.get_yticklabels()] == rows
    written = {text.get_position()[::-1]: text.get_text() for text in axes.texts}
    assert written == {
        place: f"{share:.1%}" for place, share in np.ndenumerate(expected) if np.isfinite(share)
    }


# --- gradients -----------------------------------------------------------------------------------


def test_every_number_stands_beside_its_bar():
    values = {
        "block_0": {"cosine": 0.1, "norm_ratio": 2.0, "opposite_sign": 0.25},
        "block_1": {"cosine": -0.2, "norm_ratio": 0.5, "opposite_sign": 0.5},
        "all": {"cosine": 0.0, "norm_ratio": np.nan, "opposite_sign": 0.5},
    }
    figure = drawn(drawing.conflict_figure, values, 1500)
    assert "Both gradients by block, step 1,500" in texts_of(figure)
    for axes, key in zip(figure.axes, values["all"], strict=True):
        numbers = [found[key] for found in values.values()]
        assert [bar.get_width() for bar in axes.patches] == np.nan_to_num(numbers).tolist()
        assert [text.get_text() for text in axes.texts] == [f"{number:.3f}" for number in numbers]
        assert axes.yaxis_inverted()  # the first block is the uppermost
    colours = [bar.get_facecolor() for bar in figure.axes[0].patches]
    assert colours[0] == colours[2] != colours[1]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["block 0", "block 1", "all"]


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


def test_what_is_drawn_does_not_stay_in_memory(monkeypatch):
    """Python itself looks for cycles the less often, the more objects there are."""
    figures = weakref.WeakSet()

    class Known(Figure):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            figures.add(self)

    monkeypatch.setattr(drawing, "Figure", Known)
    thresholds = gc.get_threshold()
    gc.set_threshold(100, 2, 10**6)  # young objects are looked at often, old ones never
    try:
        with drawing.style():
            for figure in drawing.activation_figures(*np.eye(8).reshape(2, 4, 8), 5).values():
                drawing.picture(figure)
            assert len(figures) == 4
            del figure
        assert not figures and gc.isenabled()
    finally:
        gc.set_threshold(*thresholds)
