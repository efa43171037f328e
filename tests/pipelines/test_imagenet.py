"""The command: three sources to the same records, and what it says to a user."""

import io

import numpy as np
import pytest
from PIL import Image

from pipelines import command_line, imagenet
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


@pytest.mark.parametrize("source", ["tar", "folder"])
def test_images_of_each_source_are_written_once_with_their_classes(tmp_path, source):
    output = tmp_path / "output"
    if source == "tar":
        flags = tar_flags(write_tars(tmp_path / "tars"))
    else:
        folder = write_folders(tmp_path / "images")
        flags = [f"--train_folder={folder}/train", f"--validation_folder={folder}/val"]
    assert command(*flags, f"--output={output}", "--train_shards=3") == 0
    check_clean_output(output)
    names = [f"train-{shard:05d}-of-00003" for shard in range(3)]
    others = ["train.manifest.json", "validation-00000-of-00001", "validation.manifest.json"]
    assert sorted(files(output)) == ["classes.txt", *names, *others]
    assert (output / "classes.txt").read_text().splitlines() == sorted(SYNSETS)
    manifest = read_manifest(str(output / "train"))
    assert [entry["records"] for entry in manifest["shards"]] == [8, 8, 8]
    assert manifest["settings"]["source"] == source
    # Images of a class do not lie together.
    labels = [record["class/label"] for record in read_records(output / "train-*")]
    assert sum(a != b for a, b in zip(labels, labels[1:], strict=False)) > 8  # 16 expected of 23


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


def test_other_classes_in_the_output_folder_are_refused(tmp_path, capsys):
    folder, output = write_folders(tmp_path / "images"), tmp_path / "output"
    output.mkdir()
    (output / "classes.txt").write_text("cat\ndog\n")
    assert command(f"--folder={folder}", f"--output={output}") == 2
    assert f"{output}/classes.txt: " in capsys.readouterr().err
    assert [path.name for path in output.iterdir()] == ["classes.txt"]
