"""Numbers, files and pictures of masks that are set by hand, against NumPy."""

import numpy as np
import pytest

from keras_vitbert.inspection import mask_pictures, mask_values
from keras_vitbert.inspection.mask_pictures import averaged, block_picture, scale_of, sparsity_chart
from keras_vitbert.inspection.mask_values import MaskValues, pictured
from keras_vitbert.inspection.value_files import read_values
from keras_vitbert.model.shared_weights import KINDS, kind_of
from keras_vitbert.runs.run_folder import RunFolder

LAYERS = {
    "query": "self_attention_layer/query/",
    "key": "self_attention_layer/key/",
    "value": "self_attention_layer/value/",
    "output": "self_attention_layer/attention_output/",
    "mlp_in": "feedforward_intermediate_dense/",
    "mlp_out": "feedforward_output_dense/",
    "norms": ("self_attention_layer_norm/", "feedforward_layer_norm/", "final_norm/"),
}


@pytest.fixture(scope="module")
def masks(network):
    """Masks of the tiny network by path: every kind of weight of every block in its own measure."""
    random = np.random.default_rng(0)
    return {
        v.path: random.random(v.shape) > (0.1 + 0.05 * number % 0.8)
        for number, v in enumerate(network.backbone.shared_variables)
    }


def of_kind(masks, block, kind):
    """The entries of a kind by the layers' names."""
    names = LAYERS[kind]
    found = [m.ravel() for path, m in masks.items() if block in path and _has(path, names)]
    return np.concatenate(found) if found else np.zeros(0, bool)


def _has(path, names):
    return any(
        f"{path}/".find(name) >= 0 for name in ([names] if isinstance(names, str) else names)
    )


def test_every_weight_has_its_kind(network):
    kinds = {v.path: kind_of(v.path) for v in network.backbone.shared_variables}
    assert set(kinds.values()) == set(KINDS)
    for kind in KINDS[:-1]:  # a kernel and a bias in each of two blocks
        assert sum(found == kind for found in kinds.values()) == 4
    assert sum(found == "norms" for found in kinds.values()) == 2 * 4 + 2
    with pytest.raises(ValueError, match="text_embedding/x/kernel is of no layer"):
        kind_of("text_embedding/x/kernel")


def test_numbers(masks):
    values = MaskValues.of(21, masks)
    assert values.blocks == ["block_0", "block_1", "final_norm"]
    for row, block in enumerate(values.blocks):
        for column, kind in enumerate(KINDS):
            entries = of_kind(masks, block, kind)
            assert values.entries[row, column] == entries.size
            assert values.cleared[row, column] == np.sum(~entries)
    together = np.concatenate([m.ravel() for m in masks.values()])
    assert values.entries.sum() == together.size
    assert values.overall == pytest.approx(np.mean(~together))
    for kind in KINDS:
        assert values.of_kinds[kind] == pytest.approx(np.mean(~of_kind(masks, "", kind)))
    for block in values.blocks:
        entries = np.concatenate([m.ravel() for path, m in masks.items() if block in path])
        assert values.of_blocks[block] == pytest.approx(np.mean(~entries))


def test_files(masks, tmp_path):
    folder = RunFolder(str(tmp_path))
    for step in (103, 21):
        MaskValues.of(step, masks).write(folder)
    MaskValues.of(5, masks).write(RunFolder(str(tmp_path), writes=False))
    assert sorted(p.name for p in (tmp_path / "inspection").iterdir()) == [
        "masks-00000021.npz",
        "masks-00000103.npz",
    ]
    arrays = read_values(str(tmp_path), "masks")[21]
    with np.errstate(invalid="ignore"):
        expected = MaskValues.of(21, masks).cleared / MaskValues.of(21, masks).entries
    np.testing.assert_array_equal(arrays["sparsity"], expected)  # nan where there is nothing
    assert np.isnan(arrays["sparsity"]).sum() == 6 and arrays["kinds"].tolist() == list(KINDS)
    query = masks["block_1/self_attention_layer/query/kernel"]
    np.testing.assert_array_equal(arrays["bits/block_1/query"], np.packbits(query))
    assert not [name for name in arrays if "norm" in name]

    first, second = MaskValues.read(str(tmp_path))
    assert (first.step, second.step) == (21, 103)
    assert set(first.kept) == {"block_0", "block_1"}
    for block, kinds in first.kept.items():
        layer = f"{block}/self_attention_layer"
        shapes = {kind: kept.shape for kind, kept in kinds.items()}
        square = dict.fromkeys(("query", "key", "value", "output"), (8, 8))
        assert shapes == {**square, "mlp_in": (8, 12), "mlp_out": (12, 8)}
        for kind in ("query", "key", "value"):
            expected = masks[f"{layer}/{kind}/kernel"].reshape(8, 8)  # (inputs, heads, width)
            np.testing.assert_array_equal(kinds[kind], expected)
        expected = masks[f"{layer}/attention_output/kernel"].reshape(
            8, 8
        )  # (heads, width, outputs)
        np.testing.assert_array_equal(kinds["output"], expected)
        expected = masks[f"{block}/feedforward_output_dense/kernel"]
        np.testing.assert_array_equal(kinds["mlp_out"], expected)


def test_blocks_that_are_pictured():
    blocks = [f"block_{number}" for number in range(12)]
    assert pictured([*blocks, "final_norm"]) == ["block_0", "block_6", "block_11"]
    assert pictured(blocks[:4]) == ["block_0", "block_2", "block_3"]
    assert pictured(blocks[:1]) == ["block_0"]
    assert pictured([]) == []


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
