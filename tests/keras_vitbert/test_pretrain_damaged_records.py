"""Damaged records in runs of `pretrain`: stopped at, or left out and told; and other images."""

import shutil

import pytest
import tensorflow as tf

from pipelines.shards.shard_files import write_shards
from tests.keras_vitbert.tiny_runs import (
    pretrain,
    summary_of,
)


@pytest.fixture
def damaged(sources, tmp_path):
    """A copy of the sources with one undecodable image and one text with a flipped byte."""
    folder = tmp_path / "sources"
    shutil.copytree(sources, folder)
    config = folder / "config.py"
    config.write_text(config.read_text().replace(str(sources), str(folder)))
    path = folder / "images-train-00001-of-00002"
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    example = tf.train.Example.FromString(records[2])
    example.features.feature["image/encoded"].bytes_list.value[0] = b"no image"
    records[2] = example.SerializeToString()
    for name in ("images-train.manifest.json", "text-train.manifest.json"):
        (folder / name).unlink()
    write_shards(records, str(folder / "new"), 1)
    (folder / "new-00000-of-00001").rename(path)
    path = folder / "text-train-00000-of-00002"
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)
    return folder


@pytest.mark.slow
def test_damaged_records_are_left_out_and_told(damaged, tmp_path, capsys):
    run = tmp_path / "run"
    flags = ["--variant=joint", "--config.inspection.gradient_interval=0"]
    assert pretrain(damaged, tmp_path / "no", *flags, "--skip_damaged=1") == 2
    assert "skip_damaged" in capsys.readouterr().err
    assert pretrain(damaged, run, *flags, "--skip_damaged=2") == 0
    output = capsys.readouterr()
    assert output.err.count("left out: ") == 2 and "2 damaged records were skipped" in output.out
    image, text = summary_of(run)["bad_records"]
    assert image["file"].endswith("images-train-00001-of-00002") and image["record"] == 2
    count = sum(1 for _ in tf.data.TFRecordDataset(f"{damaged}/text-train-00001-of-00002"))
    assert text["file"].endswith("text-train-00000-of-00002") and text["record"] in (
        count - 1,
        count,
    )
    assert image["records"] == text["records"] == 1
