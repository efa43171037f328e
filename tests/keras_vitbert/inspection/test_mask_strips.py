"""Strips of masks that are set by hand, against NumPy."""

import itertools

import numpy as np
import pytest
from matplotlib.image import BboxImage

from keras_vitbert.inspection.mask_strips import averaged, factor_of, mask_sheet
from keras_vitbert.inspection.mask_values import MaskValues
from keras_vitbert.inspection.sheet import COLUMN, PRINT, SCREEN, colours, spread, style
from keras_vitbert.model.shared_weights import KINDS
from tests.keras_vitbert.inspection.mask_layers import LAYERS

WIDTH = 7.1  # inches of a picture in TensorBoard


@pytest.mark.parametrize(
    ("hidden", "wide", "most", "factor"),
    [
        (768, 3072, 860, 12),
        (1024, 4096, 860, 16),
        (384, 1536, 860, 6),
        (128, 512, 860, 2),
        (8, 12, 860, 1),
        (768, 3072, 400, 24),
        (128, 512, 400, 4),
        (101, 409, 400, 4),
    ],
)
def test_a_strip_fits(hidden, wide, most, factor):
    shapes = [(hidden, hidden)] * 4 + [(hidden, wide)] * 2
    assert factor_of(shapes, most) == factor
    assert sum(-(-columns // factor) for _, columns in shapes) <= most + 6


@pytest.mark.parametrize(("rows", "columns", "factor"), [(7, 5, 3), (512, 510, 255), (6, 4, 1)])
def test_means(rows, columns, factor):
    """Also of sizes that the factor does not divide."""
    matrix = np.random.default_rng(1).random((rows, columns)) < 0.9
    for given in (matrix, matrix.T.copy().T):
        means = averaged(given, factor)
        assert means.shape == (-(-rows // factor), -(-columns // factor))
        for row in range(means.shape[0]):
            for column in range(means.shape[1]):
                part = matrix[
                    factor * row : factor * (row + 1), factor * column : factor * (column + 1)
                ]
                assert means[row, column] == pytest.approx(part.mean())


def kernels_of(hidden, random, limit):
    """What is kept of the six kernels of a block, `(inputs, outputs)`."""
    shapes = {
        **dict.fromkeys(("query", "key", "value", "output"), (hidden, hidden)),
        "mlp_in": (hidden, 2 * hidden),
        "mlp_out": (2 * hidden, hidden),
    }
    return {kind: random.random(shape) > limit for kind, shape in shapes.items()}


def values_of(step, kernels):
    """`MaskValues` of one block with kernels as Keras shapes them: attention has two heads."""
    hidden = len(kernels["query"])
    reshaped = {
        kind: mask.reshape(hidden, 2, -1)
        if kind in ("query", "key", "value")
        else mask.reshape(2, -1, hidden)
        if kind == "output"
        else mask
        for kind, mask in kernels.items()
    }
    paths = {f"block_0/{LAYERS[kind]}kernel": mask for kind, mask in reshaped.items()}
    return MaskValues.of(step, paths)


@pytest.mark.parametrize(
    ("hidden", "width", "dots", "factor"),
    [(8, WIDTH, SCREEN, 1), (256, WIDTH, SCREEN, 4), (8, COLUMN, PRINT, 1), (64, COLUMN, PRINT, 2)],
)
def test_every_cell_is_the_mean_of_its_entries(hidden, width, dots, factor):
    """Whether entries are enlarged or averaged; and each cell is a square of whole dots."""
    random = np.random.default_rng(2)
    kernels = {20 * number + 1: kernels_of(hidden, random, number / 4) for number in range(3)}
    updates = [values_of(step, found) for step, found in kernels.items()]
    with style():
        sheet = mask_sheet(updates, ["block_0"], width, dots, "a note")
        picture = sheet.picture()
        images = [artist for artist in sheet.figure.artists if isinstance(artist, BboxImage)]
    assert len(images) == 3 * 6 + 1  # and the scale
    for image, (step, kind) in zip(images, itertools.product(kernels, KINDS[:6]), strict=False):
        mask = kernels[step][kind]
        mask = mask.T if kind in ("output", "mlp_out") else mask  # the hidden state goes down
        rows, columns = (count // factor for count in mask.shape)
        means = 1 - mask.reshape(rows, factor, columns, factor).mean(axis=(1, 3))
        left, bottom, right, top = np.rint(image.get_window_extent().extents).astype(int)
        size = (right - left) // columns
        assert right - left == size * columns and top - bottom == size * rows
        shown = picture[len(picture) - top : len(picture) - bottom, left:right]
        np.testing.assert_array_equal(shown, colours(means).repeat(size, 0).repeat(size, 1))
    texts = [text.get_text() for text in sheet.figure.texts]
    for update in updates:
        assert f"step {update.step}" in texts
        kept = np.concatenate([mask.ravel() for mask in kernels[update.step].values()])
        assert f"{1 - kept.mean():.1%}" in texts
    cell = "an entry" if factor == 1 else f"the mean of {factor} × {factor} entries"
    assert any(f"a cell: {cell}\n" in text for text in texts)
    names = ["query", "key", "value", "output", "MLP in", "MLP out"]
    short = [name if name in texts else name[0].upper() for name in names]
    assert [text for text in texts if text in short] == short and short[4:] == names[4:]


def test_of_many_updates_some_are_shown():
    random = np.random.default_rng(3)
    updates = [values_of(step, kernels_of(8, random, 0.5)) for step in range(1, 31)]
    with style():
        sheet = mask_sheet(updates, ["block_0"], COLUMN, PRINT, "run: a")
        assert sheet.height == mask_sheet(updates[:9], ["block_0"], COLUMN, PRINT, "run: a").height
        assert sheet.height > mask_sheet(updates[:8], ["block_0"], COLUMN, PRINT, "run: a").height
    texts = [text.get_text() for text in sheet.figure.texts]
    assert "run: a\n8 of 30 updates" in texts
    steps = [text for text in texts if text.startswith("step")]
    assert len(steps) == 8 and steps[0] == "step 1" and steps[-1] == "step 30"
    with style():
        given = mask_sheet(spread(updates, 8), ["block_0"], COLUMN, PRINT, "run: a", count=30)
        assert [text.get_text() for text in given.figure.texts] == texts
        texts = mask_sheet(updates, ["block_0"], WIDTH, SCREEN).figure.texts
    assert "8 of 30 updates" in [text.get_text() for text in texts]
