"""Damaged records in runs of `pretrain`: stopped at, or left out and told; and other images."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from pipelines.shards.shard_files import write_shards
from tests.keras_vitbert.tiny_runs import assert_same_values, checkpoint_values, pretrain


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


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


@pytest.mark.slow
def test_damaged_records_are_left_out_and_told(damaged, tmp_path, capsys):
    run = tmp_path / "run"
    flags = ["--variant=joint", "--config.inspection.gradient_interval=0"]
    assert pretrain(damaged, run, *flags, "--skip_damaged=2") == 0
    output = capsys.readouterr()
    lines = output.err.splitlines()
    assert "joint: computing baselines from frequencies ..." in lines
    for step, measure in (("1 of 10, ", ""), ("10 of 10, ", ""), ("4 of 10: validation ", "mlm")):
        assert any(measure in line for line in lines if f"joint: step {step}" in line)
    assert "\n  time: " in output.out and "poch" not in output.err + output.out
    assert output.err.count("left out: ") == 2 and "2 damaged records were skipped" in output.out
    image, text = summary(run)["bad_records"]
    assert image["file"].endswith("images-train-00001-of-00002") and image["record"] == 2
    assert "Unknown image file format" in image["reason"]
    count = sum(1 for _ in tf.data.TFRecordDataset(f"{damaged}/text-train-00001-of-00002"))
    assert text["file"].endswith("text-train-00000-of-00002") and text["record"] in (
        count - 1,
        count,
    )
    assert image["records"] == text["records"] == 1

    # As if they had never been there.
    clean = tmp_path / "clean"
    shutil.copytree(damaged, clean)
    config = clean / "config.py"
    config.write_text(config.read_text().replace(str(damaged), str(clean)))
    for name, bad in (
        ("images-train-00001-of-00002", 2),
        ("text-train-00000-of-00002", text["record"]),
    ):
        records = []
        dataset = tf.data.TFRecordDataset(str(clean / name)).ignore_errors()
        for record in dataset:
            records.append(record.numpy())
        del records[bad : bad + 1]
        write_shards(records, str(clean / "new"), 1)
        (clean / "new-00000-of-00001").rename(clean / name)
    other = tmp_path / "other"
    assert pretrain(clean, other, *flags) == 0
    assert_same_values(checkpoint_values(run), checkpoint_values(other))


@pytest.mark.slow
def test_without_the_flag_the_first_one_stops_the_run(damaged, tmp_path, capsys):
    assert pretrain(damaged, tmp_path / "run", "--variant=vit") == 2
    error = capsys.readouterr().err
    [line] = [line for line in error.splitlines() if line.startswith("error:")]
    assert "images-train-00001-of-00002: record 2: " in line and "skip_damaged" in line
    assert not (tmp_path / "run" / "summary.json").exists()


def test_more_damage_than_allowed_is_refused(damaged, tmp_path, capsys):
    assert pretrain(damaged, tmp_path / "run", "--variant=joint", "--skip_damaged=1") == 2
    assert "skip_damaged" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(damaged, tmp_path, capsys):
    run = tmp_path / "run"
    assert pretrain(damaged, run, "--variant=vit", "--skip_damaged=1", "--dry_run") == 0
    assert "left out: " in capsys.readouterr().err and not run.exists()


@pytest.mark.slow
def test_a_run_goes_on_without_the_records_it_began_without(damaged, tmp_path, capsys):
    run, flag = tmp_path / "run", "--skip_damaged=1"
    assert pretrain(damaged, run, "--variant=vit", flag) == 0
    (run / "summary.json").unlink()
    capsys.readouterr()
    assert pretrain(damaged, run, "--variant=vit", flag) == 0
    assert len(summary(run)["bad_records"]) == 1
    (run / "summary.json").unlink()
    assert pretrain(damaged, run, "--variant=vit") == 2
    assert "other images" in capsys.readouterr().err


@pytest.mark.slow
def test_augmented_and_mixed_images_train(sources, tmp_path):
    flags = ["--config.data.images.randaugment=(2,9)", "--config.data.images.mixup=0.4"]
    flags += ["--config.data.images.cutmix=1.0", "--config.steps=4"]
    assert pretrain(sources, tmp_path / "run", "--variant=vit", *flags) == 0
    assert np.isfinite(summary(tmp_path / "run")["validation"]["image_loss"])


@pytest.mark.slow
def test_records_in_memory_change_nothing(sources, finished, tmp_path):
    assert pretrain(sources, tmp_path, "--variant=joint", "--cache") == 0
    assert_same_values(checkpoint_values(finished("joint")), checkpoint_values(tmp_path))
