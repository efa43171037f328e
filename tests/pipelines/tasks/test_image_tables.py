"""Tables of images: which rows are examples."""

import pyarrow
import pyarrow.parquet
import pytest

from pipelines.tasks.labelled_images import read_images
from pipelines.tasks.tables import open_table


@pytest.mark.parametrize("label", [" ", "", b"cat", "a\nb", None])
def test_a_label_is_a_word(tmp_path, label):
    """As it is for texts: a class without a name would be trained."""
    path = tmp_path / "train.parquet"
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    labels = [b"dog" if isinstance(label, bytes) else "dog", label]
    rows = pyarrow.table({"image": ["a.jpg", "b.jpg"], "label": labels})
    if isinstance(label, bytes):
        rows = rows.slice(1)
    pyarrow.parquet.write_table(rows, path)
    with pytest.raises(ValueError, match=f"row {len(rows)}: .*label"):
        read_images([open_table(str(path))], "image")
    if len(rows) == 2:
        _, classes, left_out = read_images([open_table(str(path))], "image", skip_damaged=1)
        assert (classes, left_out) == (["dog"], 1)
