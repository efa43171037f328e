"""The command: tar files and folders to the same records, and what it says to a user."""

import numpy as np

from pipelines import command_line, imagenet
from pipelines.shards.shard_manifest import read_manifest
from tests.pipelines.image_fixtures import (
    encoded,
    jpeg,
    picture,
    pixels,
    read_records,
    tar,
    train_tar,
)

SYNSETS = ("n01443537", "n01440764", "n01484850")  # not sorted
LABELS = {synset: label for label, synset in enumerate(sorted(SYNSETS), 1)}
# By name: the image and its class. Names that TFDS knows as CMYK and PNG are none of these.
TRAIN = {
    f"{synset}_{i}.JPEG": (jpeg(100 * c + i, (40 + i, 30 + c)), synset)
    for c, synset in enumerate(SYNSETS)
    for i in range(8)
}
VALIDATION = {f"ILSVRC2012_val_{i:08d}.JPEG": (jpeg(500 + i), SYNSETS[i % 2]) for i in range(1, 6)}
PNG = encoded(picture(91), "PNG")
DAMAGED = {"n01443537_95.JPEG": jpeg(95)[:-200], "n01443537_97.JPEG": b"<html>404</html>"}


def command(*arguments):
    """Runs the command in this process: its exit status."""
    argv = [*map(str, arguments), "--train_shards=3", "--", "--direct_num_workers=1"]
    return command_line.run(imagenet.main, argv)


def write_tars(folder):
    """With images of the first class that are odd; returns the command's flags."""
    classes = {s: {n: data for n, (data, of) in TRAIN.items() if of == s} for s in SYNSETS}
    classes[SYNSETS[0]] |= {"n01443537_91.JPEG": PNG, **DAMAGED}
    validation = [(name, data) for name, (data, _) in reversed(VALIDATION.items())]
    (folder / "train.tar").write_bytes(train_tar(classes))
    (folder / "val.tar").write_bytes(tar(validation))
    (folder / "labels.txt").write_text("\n".join(synset for _, synset in VALIDATION.values()))
    files = {"train_tar": "train.tar", "validation_tar": "val.tar"}
    files["validation_labels"] = "labels.txt"
    return [f"--{flag}={folder / file}" for flag, file in files.items()]


def write_folders(folder):
    for split, images in (("train", TRAIN), ("val", VALIDATION)):
        for name, (data, synset) in images.items():
            (folder / split / synset).mkdir(parents=True, exist_ok=True)
            (folder / split / synset / name).write_bytes(data)
    return [f"--train_folder={folder}/train", f"--validation_folder={folder}/val"]


def check_records(records, expected):
    """Each image once, as it was, with its class; `expected` is {file name: (bytes, synset)}."""
    assert sorted(record["filename"].decode() for record in records) == sorted(expected)
    for record in records:
        data, synset = expected[record["filename"].decode()]
        assert record["encoded"] == data
        assert record["class/synset"] == synset.encode()
        assert record["class/label"] == LABELS[synset]
        height, width, _ = pixels(record["encoded"]).shape
        assert (record["height"], record["width"], record["channels"]) == (height, width, 3)
        assert (record["format"], record["colorspace"]) == (b"JPEG", b"RGB")


def test_images_of_folders_are_written_once_with_their_classes(tmp_path, capsys):
    output = tmp_path / "output"
    flags = [*write_folders(tmp_path), f"--output={output}"]
    output.mkdir()
    (output / "classes.txt").write_text("cat\ndog\n")  # of other images
    assert command(*flags) == 2
    assert f"{output}/classes.txt: " in capsys.readouterr().err
    (output / "classes.txt").unlink()
    assert command(*flags) == 0
    train = read_records(output / "train-*-of-*")
    check_records(train, TRAIN)
    check_records(read_records(output / "validation-*-of-*"), VALIDATION)
    assert (output / "classes.txt").read_text().splitlines() == sorted(SYNSETS)
    manifest = read_manifest(str(output / "train"))
    assert [entry["records"] for entry in manifest["shards"]] == [8, 8, 8]
    # Images of a class do not lie together.
    labels = [record["class/label"] for record in train]
    assert np.count_nonzero(np.diff(labels)) > 8  # 16 expected of 23


def test_odd_and_damaged_images_of_tar_files(tmp_path, capfd):
    """They are converted or left out, named, and counted; a second run goes on from the first."""
    output = tmp_path / "output"
    arguments = [*write_tars(tmp_path), f"--output={output}"]
    assert command(*arguments) == 2
    *_, last = capfd.readouterr().err.splitlines()
    assert last.startswith(f"error: {tmp_path / 'train.tar'}: ") and "skip_damaged to 2" in last
    assert any(name in last for name in DAMAGED)
    assert not list(output.glob("*.manifest.json")) and not list(output.rglob("*.list"))

    assert command(*arguments, "--skip_damaged=2") == 0
    records = read_records(output / "train-*-of-*")
    [png] = [record for record in records if record["filename"] == b"n01443537_91.JPEG"]
    assert abs(pixels(png["encoded"]) - pixels(PNG)).mean() < 5
    made = {"n01443537_91.JPEG": (png["encoded"], SYNSETS[0])}
    check_records(records, {**TRAIN, **made})
    check_records(read_records(output / "validation-*-of-*"), VALIDATION)
    manifest = read_manifest(str(output / "train"))
    assert {d["record"] for d in manifest["damaged"]} == DAMAGED.keys()
    assert {"images": 25, "converted_png": 1}.items() <= manifest["counts"].items()
