import os

import pytest
import tensorflow as tf

from pipelines.images.image_sources import (
    WHOLE_FILE,
    ImageList,
    entry_file,
    entry_name,
    read_bytes,
    read_entry,
)

CONTENT = b"two, five!, one"
# Images of two classes in one file: `(label, name, offset, size)`.
IMAGES = [(0, "a", 0, 3), (0, "ü", 5, 5), (0, "long" * 9, 12, 3), (3, "b", 4, 0)]


def test_entries_are_what_was_given(tmp_path):
    (tmp_path / "images.tar").write_bytes(CONTENT)
    images = ImageList.of(str(tmp_path / "images.tar"), IMAGES)
    assert len(images) == 4 and len(ImageList.of("nothing", [])) == 0
    found = [
        (entry["label"], entry_name(entry), read_entry(images.source, entry))
        for entry in images.entries
    ]
    assert found == [(0, "a", b"two"), (0, "ü", b"five!"), (0, "long" * 9, b"one"), (3, "b", b"")]


def test_entries_of_a_folder_are_files(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").write_bytes(CONTENT)
    images = ImageList.of(str(tmp_path), [(0, "cat/1.png", 0, WHOLE_FILE)])
    [entry] = images.entries
    assert entry_file(images.source, entry) == str(tmp_path / "cat" / "1.png")
    assert read_entry(images.source, entry) == CONTENT


def test_order():
    """All images once, mixed, by the seed alone."""
    images = ImageList.of(
        "images.tar",
        [(label, f"{label}_{n}", n * 512 + label, 0) for label in range(4) for n in range(50)],
    )
    shuffled = images.shuffled((5, 0))
    assert sorted(shuffled.entries["offset"]) == sorted(images.entries["offset"])
    for entry in shuffled.entries:  # each as it was
        label, number = map(int, entry_name(entry).split("_"))
        assert (entry["label"], entry["offset"]) == (label, number * 512 + label)
    labels = shuffled.entries["label"]
    assert 100 < (labels[1:] != labels[:-1]).sum() < 199  # 150 expected of 199
    assert images.shuffled((5, 0)).digest() == shuffled.digest()
    others = [images, images.shuffled((6, 0)), images.shuffled((5, 1))]
    assert len({other.digest() for other in [*others, shuffled]}) == 4


def test_a_stored_list_is_read_in_parts_and_then_gone(tmp_path):
    images = ImageList.of("images.tar", IMAGES)
    folder = tmp_path / "lists"
    with images.stored(str(folder)) as stored:
        assert stored.source == "images.tar" and len(list(folder.iterdir())) == 1
        for start in range(5):
            for stop in range(start, 5):
                part = stored.part(start, stop)
                assert part.entries.tolist() == images.entries[start:stop].tolist()
    assert not folder.exists()


@pytest.mark.parametrize("prefix", ["", "ram://image_lists"])
def test_a_file_that_ends_too_early_is_an_error(tmp_path, prefix):
    """What cannot be read in full is never a shorter image."""
    path = f"{prefix}{tmp_path}/images.tar"
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "wb") as stream:
        stream.write(CONTENT)
    assert read_bytes(path, 5, 5) == b"five!" and read_bytes(path) == CONTENT
    with pytest.raises(OSError, match="images.tar has 15 bytes, expected 16"):
        read_bytes(path, 12, 4)
    with pytest.raises(OSError):
        read_bytes(f"{path}.none")
