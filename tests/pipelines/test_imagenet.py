"""The command: three sources to the same records, and what it says to a user."""

import io
import os

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from pipelines import command_line, imagenet, package_data
from pipelines.prepare.image_shards import ListedImagesJob, TfdsImagesJob
from pipelines.shards.shard_manifest import read_manifest
from tests.pipelines.image_fixtures import (
    cmyk,
    encoded,
    jpeg,
    picture,
    pixels,
    read_records,
    tar,
    train_tar,
)

SYNSETS = ("n01443537", "n01440764", "n01484850")  # not sorted
LABELS = {"n01440764": 1, "n01443537": 2, "n01484850": 3}
# Names that TFDS knows as CMYK and PNG are none of these: it converts by name.
TRAIN = {
    synset: {f"{synset}_{i}.JPEG": jpeg(100 * c + i, (40 + i, 30 + c)) for i in range(8)}
    for c, synset in enumerate(SYNSETS)
}
VALIDATION = {f"ILSVRC2012_val_{i:08d}.JPEG": jpeg(500 + i) for i in range(1, 6)}
VALIDATION_LABELS = ["n01484850", "n01440764", "n01484850", "n01443537", "n01440764"]
ODD = {
    "n01443537_90.JPEG": cmyk(picture(90)),
    "n01443537_91.JPEG": encoded(picture(91), "PNG"),
    "n01443537_92.JPEG": encoded(picture(92), "BMP"),
    "n01443537_93.JPEG": encoded(picture(93), "GIF"),
    "n01443537_94.JPEG": encoded(picture(94).convert("L")),
}
DAMAGED = {
    "n01443537_95.JPEG": jpeg(95)[:-200],
    "n01443537_96.JPEG": b"",
    "n01443537_97.JPEG": b"<html>404</html>",
}


def command(*arguments, workers=1):
    """Runs the command in this process: its exit status."""
    return command_line.run(
        imagenet.main, [*map(str, arguments), "--", f"--direct_num_workers={workers}"]
    )


def write_tars(folder, odd=False):
    train = TRAIN
    if odd:
        train = {**TRAIN, "n01443537": {**TRAIN["n01443537"], **ODD, **DAMAGED}}
    folder.mkdir()
    (folder / "ILSVRC2012_img_train.tar").write_bytes(train_tar(train))
    (folder / "ILSVRC2012_img_val.tar").write_bytes(tar(reversed(VALIDATION.items())))
    (folder / "labels.txt").write_text("\n".join(VALIDATION_LABELS))
    return folder


def tar_flags(folder):
    return [
        f"--train_tar={folder / 'ILSVRC2012_img_train.tar'}",
        f"--validation_tar={folder / 'ILSVRC2012_img_val.tar'}",
        f"--validation_labels={folder / 'labels.txt'}",
    ]


def write_folders(folder):
    for synset, files in TRAIN.items():
        (folder / "train" / synset).mkdir(parents=True)
        for name, data in files.items():
            (folder / "train" / synset / name).write_bytes(data)
    for (name, data), synset in zip(VALIDATION.items(), VALIDATION_LABELS, strict=True):
        (folder / "val" / synset).mkdir(parents=True, exist_ok=True)
        (folder / "val" / synset / name).write_bytes(data)
    return folder


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


def check_clean_output(output):
    train = {name: (data, synset) for synset, d in TRAIN.items() for name, data in d.items()}
    check_records(read_records(output / "train-*-of-*"), train)
    validation = zip(VALIDATION.items(), VALIDATION_LABELS, strict=True)
    check_records(
        read_records(output / "validation-*-of-*"),
        {name: (data, synset) for (name, data), synset in validation},
    )


def files(output, pattern="*"):
    return {path.name: path.read_bytes() for path in sorted(output.glob(pattern))}


@pytest.mark.parametrize("source", ["tar", "folder", "split folders", "tfds"])
def test_sources(tmp_path, source):
    output = tmp_path / "output"
    if source == "tar":
        flags = tar_flags(write_tars(tmp_path / "tars"))
    elif source == "folder":
        flags = [f"--folder={write_folders(tmp_path / 'images')}"]
    elif source == "split folders":
        folder = write_folders(tmp_path / "images")
        flags = [f"--train_folder={folder}/train", f"--validation_folder={folder}/val"]
    else:
        flags = tfds_flags(tmp_path)
    assert command(*flags, f"--output={output}", "--train_shards=3") == 0
    if source == "tfds":
        check_tfds_output(output)
    else:
        check_clean_output(output)
    names = [f"train-{shard:05d}-of-00003" for shard in range(3)]
    assert sorted(files(output)) == sorted(
        ["classes.txt", *names, "train.manifest.json"]
        + ["validation-00000-of-00001", "validation.manifest.json"]
    )
    classes = (output / "classes.txt").read_text().splitlines()
    assert classes[:3] == sorted(SYNSETS)
    manifest = read_manifest(str(output / "train"))
    assert manifest["kind"] == "images" and manifest["damaged"] == []
    assert [entry["records"] for entry in manifest["shards"]] == [8, 8, 8]
    assert manifest["counts"]["images"] == 24
    settings = manifest["settings"]
    assert settings["num_classes"] == len(classes) and settings["label_offset"] == 1
    assert settings["source"] == source.split()[-1].removesuffix("s").replace("tfd", "tfds")
    assert settings["split"] == "train" and settings["images"] == 24
    # Images of a class do not lie together, in the files or in all.
    labels = [record["class/label"] for record in read_records(output / "train-*")]
    assert all(len(set(labels[start : start + 8])) > 1 for start in (0, 8, 16))
    assert sum(a != b for a, b in zip(labels, labels[1:], strict=False)) > 8  # 16 expected of 23


def tfds_flags(tmp_path):
    tars = write_tars(tmp_path / "tars")
    tfds.builder("imagenet2012", data_dir=tmp_path / "tfds", try_gcs=False).download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=tars)
    )
    return [f"--tfds_data_dir={tmp_path / 'tfds'}"]


def check_tfds_output(output):
    """TFDS gives the validation images ImageNet's own labels: the first ones of its list."""
    train = {name: (data, synset) for synset, d in TRAIN.items() for name, data in d.items()}
    check_records(read_records(output / "train-*-of-*"), train)
    path = package_data.find_package_file(
        "tensorflow_datasets", "datasets/imagenet2012/validation_labels.txt"
    )
    labels = open(path).read().splitlines()[: len(VALIDATION)]
    classes = (output / "classes.txt").read_text().splitlines()
    assert len(classes) == 1000
    records = read_records(output / "validation-*-of-*")
    assert {record["filename"].decode(): record["encoded"] for record in records} == VALIDATION
    for record in records:
        number = int(record["filename"].decode()[-7:-5])
        assert record["class/synset"].decode() == labels[number - 1]
        assert classes[record["class/label"] - 1] == labels[number - 1]


def test_damaged_files_of_tfds_are_named(tmp_path, capfd):
    output = tmp_path / "output"
    assert command(*tfds_flags(tmp_path), f"--output={output}") == 0
    [path] = (tmp_path / "tfds").glob("imagenet2012/*/*-train.*")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    capfd.readouterr()
    flags = [f"--tfds_data_dir={tmp_path / 'tfds'}", f"--output={tmp_path / 'again'}"]
    assert command(*flags, "--skip_damaged=9") == 2
    err = capfd.readouterr().err
    *_, last = err.splitlines()
    assert last.startswith(f"error: {path.parent}: cannot be read (")
    assert "Traceback" not in err


def test_odd_and_damaged_images(tmp_path, capfd):
    """They are converted or left out, named, and counted; a second run goes on from the first."""
    tars = write_tars(tmp_path / "tars", odd=True)
    output = tmp_path / "output"
    arguments = [*tar_flags(tars), f"--output={output}", "--train_shards=4"]
    assert command(*arguments) == 2
    *_, last = capfd.readouterr().err.splitlines()
    assert last.startswith(f"error: {tars / 'ILSVRC2012_img_train.tar'}: ")
    assert any(name in last for name in DAMAGED)
    assert "skip_damaged to 3" in last
    assert not list(output.glob("*.manifest.json")) and not list(output.rglob("*.list"))

    assert command(*arguments, "--skip_damaged=3") == 0
    assert "train: converted to RGB JPEG: 1 PNG, 1 GIF, 1 BMP, 1 CMYK" in capfd.readouterr().err
    unbroken = tmp_path / "unbroken"
    arguments[3] = f"--output={unbroken}"
    assert command(*arguments, "--skip_damaged=3") == 0
    assert files(output) == files(unbroken)

    records = {r["filename"].decode(): r for r in read_records(output / "train-*-of-*")}
    kept = {name: data for d in TRAIN.values() for name, data in d.items()}
    kept["n01443537_94.JPEG"] = ODD["n01443537_94.JPEG"]  # grey
    converted = ODD.keys() - kept.keys()
    assert records.keys() == kept.keys() | converted
    for name, data in kept.items():
        assert records[name]["encoded"] == data
    for name in converted:
        image = Image.open(io.BytesIO(records[name]["encoded"]))
        assert image.format == "JPEG" and image.mode == "RGB"
        assert abs(np.asarray(image).astype(int) - pixels(ODD[name])).mean() < 5
        assert records[name]["class/label"] == LABELS["n01443537"]
    manifest = read_manifest(str(output / "train"))
    assert {d["record"] for d in manifest["damaged"]} == DAMAGED.keys()
    assert {"images": 29, "converted_png": 1, "converted_cmyk": 1}.items() <= (
        manifest["counts"].items()
    )


@pytest.mark.slow
def test_two_workers_and_a_restart_write_the_same_bytes(tmp_path, monkeypatch):
    folder = write_folders(tmp_path / "images")
    outputs = {name: tmp_path / name for name in ("one", "two", "stopped")}
    flags = [f"--train_folder={folder / 'train'}", "--train_shards=5"]
    assert command(*flags, f"--output={outputs['one']}") == 0
    assert command(*flags, f"--output={outputs['two']}", workers=2) == 0
    expected = files(outputs["one"])
    assert len(expected) == 7
    assert files(outputs["two"]) == expected

    # A run that is stopped at its third shard.
    output = outputs["stopped"]
    write_shard = ListedImagesJob.write_shard

    def stopped(self, shard, *rest):
        if shard == 2:
            raise command_line.Stopped()
        return write_shard(self, shard, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(ListedImagesJob, "write_shard", stopped)
        assert command(*flags, f"--output={output}") == command_line.EXIT_STOPPED
    assert not list(output.rglob("*.list"))
    there = {path: path.stat().st_mtime_ns for path in output.glob("train-*-of-00005")}
    assert len(there) == 2 and not (output / "train.manifest.json").exists()
    assert command(*flags, f"--output={output}") == 0
    assert files(output) == expected
    assert {path: path.stat().st_mtime_ns for path in there} == there
    # And once more: there is nothing to do, and another seed is another data set.
    assert command(*flags, f"--output={output}") == 0
    assert files(output) == expected
    assert command(*flags, "--seed=1", f"--output={output}") == 2
    assert files(output) == expected


@pytest.mark.parametrize(
    "split, count, shards",
    [("train", 1_281_167, 1024), ("validation", 50_000, 128), ("train", 50_000, 166)],
)
def test_default_shards(split, count, shards):
    assert TfdsImagesJob("", "1", split, (), count).size() == (shards, count, "images")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train_folder=IMAGES/train", "--output=FILE"], "cannot be written to"),
        (["--train_folder=IMAGES/train", "--output=OTHER"], "classes.txt: does not list the"),
    ],
)
def test_bad_input(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    if any("IMAGES" in argument for argument in arguments):
        write_folders(tmp_path / "IMAGES")
    (tmp_path / "FILE").write_text("")
    (tmp_path / "OTHER").mkdir()
    (tmp_path / "OTHER" / "classes.txt").write_text("cat\ndog\n")
    assert command(*arguments) == 2
    *_, last = capsys.readouterr().err.splitlines()
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(last)
    assert last.startswith("error: ")
    for folder in ("OUT", "OTHER"):
        if os.path.isdir(folder):
            assert set(os.listdir(folder)) <= {"classes.txt"}
