"""The files of values behind the pictures."""

import numpy as np
import pytest

from keras_vitbert.inspection.value_files import read_values, stored_steps, write_values
from keras_vitbert.runs.run_folder import RunFolder


def test_files_of_values(tmp_path):
    folder, arrays = RunFolder(str(tmp_path)), {"a": np.arange(6.0).reshape(2, 3)}
    assert read_values(str(tmp_path), "masks") == {}
    for step in (100, 20, 123_456_789):
        write_values(folder, "masks", step, **arrays)
    write_values(folder, "more_masks", 1, **arrays)
    found = read_values(str(tmp_path), "masks")
    assert list(found) == [20, 100, 123_456_789]
    np.testing.assert_array_equal(found[20]["a"], arrays["a"])
    assert stored_steps(str(tmp_path), "masks") == [20, 100, 123_456_789]
    assert list(read_values(str(tmp_path), "masks", steps=[20, 123_456_789])) == [20, 123_456_789]
    written = tmp_path / "inspection" / "masks-00000020.npz"
    content = written.read_bytes()
    write_values(folder, "masks", 20, **arrays)
    assert written.read_bytes() == content
    written.write_bytes(content[:-30])
    with pytest.raises(ValueError, match=r"masks-00000020\.npz: cannot be read"):
        read_values(str(tmp_path), "masks")
