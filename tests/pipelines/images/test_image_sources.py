"""Lists of images: every one, with its class and its bytes, or one line that says what is wrong."""

import tarfile

import numpy as np
import pytest
import tensorflow as tf

from pipelines.images.image_sources import (
    entry_name,
    list_folder,
    list_train_tar,
    list_validation_tar,
    read_entry,
)
from tests.pipelines.image_fixtures import tar, train_tar

# Contents need not be images here. Sizes are around the blocks of 512 bytes that tar files have.
CLASSES = {
    "n03": {f"n03_{i}.JPEG": bytes([i]) * (511 + i) for i in range(4)},
    "n01": {"n01_1.JPEG": b"a", "n01_0.JPEG": b"", "n01_" + "x" * 150 + ".JPEG": b"long" * 300},
    "n02": {"n02_ü.JPEG": b"not ascii"},
}
EXPECTED = {
    (sorted(CLASSES).index(name), file): data
    for name, files in CLASSES.items()
    for file, data in files.items()
}


def content(images):
    """{(label, name): bytes} of a list, by its places in the file."""
    found = {
        (int(entry["label"]), entry_name(entry)): read_entry(images.source, entry)
        for entry in images.entries
    }
    assert len(found) == len(images)
    return found


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "images.tar")


def write(path, data):
    with tf.io.gfile.GFile(path, "wb") as stream:
        stream.write(data)
    return path


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_of_tars(path, form):
    data = tar([(f"{name}.tar", tar(files.items(), form)) for name, files in CLASSES.items()], form)
    images, classes = list_train_tar(write(path, data))
    assert classes == ["n01", "n02", "n03"]
    assert content(images) == EXPECTED


def test_remote_files():
    """Any path may be on another file system: TensorFlow's own in memory stands for `gs://`."""
    remote = write("ram://image_sources/train.tar", train_tar(CLASSES))
    assert content(list_train_tar(remote)[0]) == EXPECTED
    tf.io.gfile.makedirs("ram://image_sources/folder/a/below")
    write("ram://image_sources/folder/a/below/y.PNG", b"y")
    write("ram://image_sources/folder/a/x.PNG", b"x")
    images, _ = list_folder("ram://image_sources/folder")
    assert content(images) == {(0, "a/x.PNG"): b"x", (0, "a/below/y.PNG"): b"y"}
    with images.store_in("ram://image_sources/lists") as stored:
        assert (stored.part(1, 2).entries == images.entries[1:2]).all()
    assert not tf.io.gfile.exists("ram://image_sources/lists")


def test_damaged_tar_files_are_refused(path):
    """No image may vanish: a file that is cut anywhere, or has an altered header, is refused."""
    whole = train_tar(CLASSES)
    end = len(whole.rstrip(b"\0"))
    ends = {0, 1, 511, 512, 513, *range(1024, end, 512), *range(777, end, 1500)}
    for cut in sorted(ends):
        with pytest.raises(ValueError, match="images.tar.*(cut short|damaged|no images)"):
            list_train_tar(write(path, whole[:cut]))
    random = np.random.default_rng(0)
    headers = [i for i in range(0, end, 512) if whole[i + 257 : i + 262] == b"ustar"]
    refused = 0
    for _ in range(100):
        data = bytearray(whole)
        data[random.choice(headers) + random.integers(0, 500)] ^= 1 << random.integers(0, 8)
        try:
            assert content(list_train_tar(write(path, bytes(data)))[0]) == EXPECTED
        except ValueError as error:
            assert "images.tar" in str(error) and "\n" not in str(error)
            refused += 1
    assert refused > 60


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tar([("n01_1.JPEG", b"x")]), "n01_1.JPEG: is cut short"),
        (tar([("a/n01.tar", tar([])), ("b/n01.tar", tar([]))]), "class 'n01' occurs twice"),
        (b"\x1f\x8b" + bytes(2000), "no tar file without compression"),
    ],
)
def test_other_tar_files(path, data, message):
    with pytest.raises(ValueError, match=f"^{path}.*{message}"):
        list_train_tar(write(path, data))


VALIDATION = [(f"ILSVRC2012_val_{i:08d}.JPEG", bytes([i])) for i in (3, 1, 2)]


def test_validation_labels_are_in_the_order_of_names(tmp_path, path):
    write(path, tar(VALIDATION))
    labels = write(str(tmp_path / "labels.txt"), b"n03\r\nn01\r\nn03\r\n\r\n")
    images, _ = list_validation_tar(path, labels, ["n01", "n02", "n03"])
    classes = {1: 2, 2: 0, 3: 2}
    assert content(images) == {(classes[data[0]], name): data for name, data in VALIDATION}
    # Without training images the classes are those of the labels.
    images, classes = list_validation_tar(path, labels)
    assert classes == ["n01", "n03"]
    assert images.entries["label"].tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("text", "culprit"), [(b"n01\nn02\n", "holds 3"), (b"n01\n490\nn02\n", "line 2: '490'")]
)
def test_validation_labels_that_do_not_fit(tmp_path, path, text, culprit):
    write(path, tar(VALIDATION))
    labels = write(str(tmp_path / "labels.txt"), text)
    with pytest.raises(ValueError, match=culprit):
        list_validation_tar(path, labels, ["n01", "n02", "n03"])


@pytest.fixture
def folder(tmp_path):
    """Of what is to be found the bytes are its name."""
    for name in (
        *("dog/1.jpg", "dog/sub/sub/2.JPEG", "dog/boxes.txt", "dog/.hidden.jpg"),
        *("cat/1.PNG", "cat/2.webp", ".cache/4.jpg", "notes.jpg", "../elsewhere/5.bmp"),
    ):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_text(name)
    (tmp_path / "images" / "ape").symlink_to(tmp_path / "elsewhere")
    return tmp_path / "images"


def test_folder_of_class_folders(folder):
    images, classes = list_folder(f"{folder}/")
    assert classes == ["ape", "cat", "dog"]
    assert content(images) == {
        (0, "ape/5.bmp"): b"../elsewhere/5.bmp",
        (1, "cat/1.PNG"): b"cat/1.PNG",
        (1, "cat/2.webp"): b"cat/2.webp",
        (2, "dog/1.jpg"): b"dog/1.jpg",
        (2, "dog/sub/sub/2.JPEG"): b"dog/sub/sub/2.JPEG",
    }
    # Validation images may lack a class: the labels are those of the training images.
    images, _ = list_folder(str(folder), ["ant", "ape", "cat", "dog"])
    assert images.entries["label"].tolist() == [1, 2, 2, 3, 3]


def test_a_link_to_a_folder_around_it_is_not_followed(folder):
    """Each would end only where the system refuses the path, 40 links deep."""
    before = content(list_folder(str(folder))[0])
    (folder / "cat" / "all").symlink_to("..")
    (folder / "ape" / "back").symlink_to(folder / "ape")  # in a folder that is a link itself
    assert content(list_folder(str(folder))[0]) == before
    (folder / "bee").symlink_to("dog")  # two classes may be of one folder
    assert len(content(list_folder(str(folder))[0])) == len(before) + 2


def test_folders_that_are_not_as_they_should_be(folder):
    with pytest.raises(ValueError, match="cat: holds no folder"):
        list_folder(str(folder / "cat"))
    with pytest.raises(ValueError, match="'ape' is not one of the 2 classes of the training"):
        list_folder(str(folder), ["cat", "dog"])
    (folder / "bee").mkdir()
    with pytest.raises(ValueError, match=r"the class 'bee' has no image \(\.jpeg"):
        list_folder(str(folder))
