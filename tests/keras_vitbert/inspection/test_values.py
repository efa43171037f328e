"""Files of values; and numbers and files of masks that are set by hand, against NumPy."""

import numpy as np
import pytest

from keras_vitbert.inspection.values import MaskValues, read_values, write_values
from keras_vitbert.model.shared_weights import KINDS
from keras_vitbert.runs.run_folder import RunFolder
from tests.keras_vitbert.inspection.mask_layers import LAYERS


def of_kind(masks, block, kind):
    """The entries of a kind by the layers' names."""
    names = [LAYERS[kind]] if isinstance(LAYERS[kind], str) else LAYERS[kind]
    found = [
        mask.ravel()
        for path, mask in masks.items()
        if block in path and any(name in f"{path}/" for name in names)
    ]
    return np.concatenate(found) if found else np.zeros(0, bool)


def test_numbers(masks):
    values = MaskValues.from_masks(21, masks)
    assert values.blocks == ["block_0", "block_1", "final_norm"]
    for row, block in enumerate(values.blocks):
        for column, kind in enumerate(KINDS):
            entries = of_kind(masks, block, kind)
            assert values.entries[row, column] == entries.size
            assert values.cleared[row, column] == np.sum(~entries)
    together = np.concatenate([m.ravel() for m in masks.values()])
    assert values.entries.sum() == together.size
    assert values.overall == pytest.approx(np.mean(~together))
    expected = [np.mean(~of_kind(masks, "", kind)) for kind in KINDS]
    np.testing.assert_allclose(values.sparsity(0), expected)


def test_files(masks, tmp_path):
    folder = RunFolder(str(tmp_path))
    for step in (103, 21):
        MaskValues.from_masks(step, masks).write(folder)
    MaskValues.from_masks(5, masks).write(RunFolder(str(tmp_path), writes=False))
    arrays, values = read_values(str(tmp_path), "masks")[21], MaskValues.from_masks(21, masks)
    with np.errstate(invalid="ignore"):
        expected = values.cleared / values.entries
    np.testing.assert_array_equal(arrays["sparsity"], expected)  # nan where there is nothing

    first, second = MaskValues.read(str(tmp_path))
    assert (first.step, second.step) == (21, 103)
    for block, kinds in first.kept.items():
        shapes = dict.fromkeys(("query", "key", "value", "output"), (8, 8))
        shapes |= {"mlp_in": (8, 12), "mlp_out": (12, 8)}
        assert kinds.keys() == shapes.keys()
        for kind, shape in shapes.items():  # heads are merged into (inputs, outputs)
            expected = masks[f"{block}/{LAYERS[kind]}kernel"].reshape(shape)
            np.testing.assert_array_equal(kinds[kind], expected)


def test_files_of_values(tmp_path):
    folder, arrays = RunFolder(str(tmp_path)), {"a": np.arange(6.0).reshape(2, 3)}
    assert read_values(str(tmp_path), "masks") == {}
    for step in (100, 20, 123_456_789):
        write_values(folder, "masks", step, **arrays)
    write_values(folder, "more_masks", 1, **arrays)
    found = read_values(str(tmp_path), "masks")
    assert list(found) == [20, 100, 123_456_789]
    np.testing.assert_array_equal(found[20]["a"], arrays["a"])
    assert list(read_values(str(tmp_path), "masks", steps=[20, 123_456_789])) == [20, 123_456_789]
    written = tmp_path / "inspection" / "masks-00000020.npz"
    content = written.read_bytes()
    write_values(folder, "masks", 20, **arrays)
    assert written.read_bytes() == content
    written.write_bytes(content[:-30])
    with pytest.raises(ValueError, match=r"masks-00000020\.npz: cannot be read"):
        read_values(str(tmp_path), "masks")
