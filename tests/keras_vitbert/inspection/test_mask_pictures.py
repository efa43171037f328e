"""Numbers, files and pictures of masks that are set by hand, against NumPy."""

import numpy as np
import pytest

from keras_vitbert.inspection import mask_pictures, mask_values
from keras_vitbert.inspection.mask_pictures import averaged, block_picture, scale_of, sparsity_chart
from keras_vitbert.inspection.mask_values import MaskValues
from tests.keras_vitbert.inspection.mask_layers import LAYERS


@pytest.mark.parametrize(
    ("hidden", "wide", "factor", "size"),
    [(768, 3072, 12, 1), (1024, 4096, 16, 1), (384, 1536, 6, 1), (128, 512, 2, 1), (8, 12, 1, 12)],
)
def test_a_strip_fits(hidden, wide, factor, size):
    shapes = [(hidden, hidden)] * 4 + [(hidden, wide)] * 2
    assert scale_of(shapes) == (factor, size)
    assert 430 < (4 * hidden + 2 * wide) * size / factor <= 860 or size == 12


def test_sizes_that_nothing_divides():
    assert scale_of([(101, 101)] * 4 + [(101, 409)] * 2) == (2, 1)
    matrix = np.random.default_rng(1).random((7, 5)) < 0.3
    means = averaged(matrix, 3)
    assert means.shape == (3, 2)
    for row in range(3):
        for column in range(2):
            part = matrix[3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
            assert means[row, column] == pytest.approx(part.mean())


@pytest.fixture
def grey(monkeypatch):
    """Colours that can be read back: the red of a pixel is 255 times its value."""

    def colours(values, low, high):
        assert (low, high) == (0, 1)
        values = np.rint(255 * np.asarray(values))[..., None]
        return np.concatenate([values, 0 * values, 0 * values], axis=-1).astype(np.uint8)

    monkeypatch.setattr(mask_pictures, "colours", colours)
    # The legend has the real ones; nothing else on the picture has neither green nor blue.


def pixels(picture):
    """The values of a picture in those colours, and which of its pixels have one."""
    shown = (picture[..., 1] == 0) & (picture[..., 2] == 0)
    return picture[..., 0].astype(np.float64) / 255, shown


@pytest.mark.parametrize("hidden", [8, 256])
def test_pixels_average_to_the_sparsity(grey, hidden):
    """Of every strip, whether entries are enlarged or averaged."""
    random = np.random.default_rng(2)
    updates = []
    for number, limit in enumerate((0.1, 0.6)):
        kept = {
            kind: random.random(shape) > limit
            for kind, shape in (
                *((kind, (hidden, hidden)) for kind in ("query", "key", "value", "output")),
                ("mlp_in", (hidden, 2 * hidden)),
                ("mlp_out", (2 * hidden, hidden)),
            )
        }
        masks = {
            f"block_0/{LAYERS[kind]}kernel": m.reshape(hidden, 2, -1)
            if kind in ("query", "key", "value")
            else m.reshape(2, -1, hidden)
            if kind == "output"
            else m
            for kind, m in kept.items()
        }
        updates.append(MaskValues.of(20 * number + 1, masks))
    values, shown = pixels(block_picture(updates, "block_0"))
    rows = np.flatnonzero(shown.sum(axis=1) > shown.shape[1] / 2)
    strips = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    assert [len(strip) for strip in strips] == [8 * 12 if hidden == 8 else 256 // 4] * 2
    for strip, update in zip(strips, updates, strict=True):
        found = np.mean(values[strip][shown[strip]])
        cleared = 1 - np.mean(np.concatenate([m.ravel() for m in update.kept["block_0"].values()]))
        assert found == pytest.approx(cleared, abs=0.003)  # a pixel is rounded to 1/255


def test_pictures_are_small_and_many_updates_are_thinned(masks):
    updates = [MaskValues.of(step, masks) for step in range(1, 30)]
    height, width, _ = block_picture(updates, "block_0").shape
    assert height < 1000 and width < 1000
    assert block_picture(updates[:8], "block_0").shape[0] == height
    assert block_picture(updates[:7], "block_0").shape[0] < height
    chart = sparsity_chart(updates[0])
    assert chart.dtype == np.uint8 and max(chart.shape) < 1000


def test_the_chart_colours_what_the_table_says(masks):
    """The corner of each cell has the colour of its number."""
    values = MaskValues.of(1, masks)
    chart = sparsity_chart(values)
    expected = mask_values.fraction(values.cleared, values.entries)
    for number in expected[np.isfinite(expected)]:
        colour = mask_pictures.colours(number, 0, 1)
        assert np.any(np.all(chart == colour, axis=-1).sum(axis=1) >= 10)
