"""Bad calls of `pretrain`: exit status 2, one line that names culprit and mend, nothing written."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.configs import variants
from keras_vitbert.pretraining.run import PretrainingRun
from keras_vitbert.pretraining.run import pretrain as run_pretraining
from keras_vitbert.runs.run_folder import RunFolder
from pipelines.command_line import EXIT_BAD_INPUT, UserError
from pipelines.images.image_records import image_example
from pipelines.shards.tfrecords import to_example, write_shards
from tests.keras_vitbert.tiny_runs import (
    VOCABULARY,
    arguments,
    config_of,
    files_below,
    pretrain,
    write_sources,
)


@pytest.fixture
def refused(sources, tmp_path, capsys):
    """`refused(*flags, message=...)`: the call is refused, and leaves the output as it was."""

    def refused(*flags, message, output_dir=tmp_path / "run", untouched=True):
        before = files_below(output_dir) if output_dir.is_dir() else None
        capsys.readouterr()
        status = pretrain(sources, output_dir, *flags)
        out, err = capsys.readouterr()
        lines = err.splitlines()
        assert status == EXIT_BAD_INPUT, err
        assert lines[-1].startswith("error: ")
        assert re.search(message, lines[-1]), lines[-1]
        # What else may be there is progress of what went well before.
        assert all(re.search(PROGRESS, line) for line in lines[:-1])
        assert "Traceback" not in err + out
        if untouched:
            assert out == "" and len(lines) == 1
            after = files_below(output_dir) if output_dir.is_dir() else None
            assert after == before or (before is None and after == {})

    return refused


@pytest.fixture
def unfinished(sources, finished, tmp_path):
    """The folder of an image run that has done all its steps, but not come to its end."""
    folder = tmp_path / "unfinished"
    shutil.copytree(finished("vit"), folder)
    (folder / "summary.json").unlink()
    return folder


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--variant=vitbertt"], r"--variant=vitbertt: .* \(did you mean vitbert\?\)"),
        (["--config=smaple"], r"--config=smaple: .* \(did you mean sample\?\)"),
        (["--config.model.layers=2"], r"--config.model.layers: .* \(did you mean --config"),
        (["--config.steps=ten"], "--config.steps=ten"),
        (["--config.steps_per_epoch=0"], "--config.steps_per_epoch=0: must be at least 1"),
        (["--output=here"], r"'output'\. Did you mean: output_dir .*--help lists the flags"),
        (["vit"], "unexpected argument 'vit'; --help lists the flags"),
    ],
)
def test_bad_flags(refused, flags, message):
    refused(*flags, message=message)


# --- data --------------------------------------------------------------------------------------


def copy_cut(file, path):
    path.write_bytes(file.read_bytes()[:-7])


PROGRESS = (
    r"^\w+: [\d,]+ parameters|^resumed at step|^a record cannot be used; looking for it"
    r"|: looking for damaged records in \d+ files"
)


def copy_damaged(file, path):
    """One bit of the content of the last record."""
    content = bytearray(file.read_bytes())
    content[-30] ^= 1
    path.write_bytes(content)


@pytest.fixture
def bad_files(sources, tmp_path):
    """`bad_files(name) -> pattern` of files that are wrong in some way."""
    folder = tmp_path / "data"
    folder.mkdir()
    image_file = sources / "images-train-00000-of-00002"
    text_file = sources / "text-train-00000-of-00002"
    pixels = np.zeros((8, 8, 3), np.uint8)
    kind = None

    def texts():
        for record in tf.data.TFRecordDataset(str(text_file)):
            features = tf.train.Example.FromString(record.numpy()).features.feature
            yield {
                name: np.array(getattr(f, f.WhichOneof("kind")).value)
                for name, f in features.items()
            }

    def write(examples):
        kind_in_manifest = {"text": "text examples"}.get(kind, "images")
        write_shards(map(to_example, examples), str(folder / "x"), 1, kind=kind_in_manifest)

    def images(*labels):
        write(image_example(pixels, label) for label in labels)

    def last_text(**changes):
        *first, last = texts()
        write([*first, {**last, **changes}])

    def broken_jpeg():
        *first, last = (image_example(pixels, 1) for _ in range(4))
        write([*first, {**last, "image/encoded": last["image/encoded"][:60]}])

    makers = {
        "no_folder": lambda: folder.rmdir(),
        "no_files": lambda: None,
        "no_records": lambda: images(),
        "cut": lambda: copy_cut(image_file, folder / "x"),
        "text_file": lambda: (folder / "x").write_text("no records, but words\n" * 20),
        "zeros": lambda: (folder / "x").write_bytes(bytes(1600)),
        "texts": lambda: shutil.copy(text_file, folder / "x"),
        "images": lambda: shutil.copy(image_file, folder / "x"),
        "few": lambda: images(1, 2),
        "few_texts": lambda: write(list(texts())[:2]),
        "first_label": lambda: images(4, 1, 1, 1),
        "last_label": lambda: images(1, 1, 1, 0),
        "broken_jpeg": broken_jpeg,
        "no_label": lambda: write(
            [*(image_example(pixels, 1) for _ in range(3)), {"image/encoded": "x"}]
        ),
        "last_damaged": lambda: copy_damaged(
            sources / f"{kind}-train-00000-of-00002", folder / "x"
        ),
        "other_length": lambda: last_text(input_ids=np.zeros(15, int)),
        "long_texts": lambda: write([{**t, "input_ids": np.zeros(17, int)} for t in texts()]),
    }

    def bad_files(name, of_kind="images"):
        nonlocal kind
        kind = of_kind
        makers[name]()
        return f"{folder}/*"

    return bad_files


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_folder", r"no file matches .*data/\*; mend --config.data.images.train"),
        ("no_files", r"no file matches .*data/\*; mend --config.data.images.train"),
        ("no_records", r"data/\* holds no records; .*mend --config.data.images.train"),
        ("cut", r"data/x: the file is cut short \(in record 6\); write it again"),
        ("text_file", r"data/x: the file is damaged, or no TFRecord file \(in record 0\)"),
        ("zeros", r"data/x: the file is damaged, or no TFRecord file \(in record 0\)"),
        ("texts", r"data/x: its records have no field 'image/encoded'.*; give ImageNet-format"),
        ("few", r"data/\* holds 2 records, .*; set --config.image_batch"),
        ("first_label", r"data/x.*: label 4 is not in 1\.\.3; mend --config.model.num_classes"),
    ],
)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_bad_image_files(refused, bad_files, name, message, split):
    if split == "validation" and name == "few":
        return  # a short validation is filled up
    flag = f"--config.data.images.{split}={bad_files(name)}"
    refused("--variant=vit", flag, message=message.replace("images.train", f"images.{split}"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_files", r"no file matches .*data/\*; mend --config.data.text.train"),
        ("images", r"data/x: its records have no field 'input_ids' .*; give TFRecords of BERT"),
        ("few_texts", r"data/\* holds 2 records, .*; set --config.text_batch"),
        ("long_texts", r"17 tokens, .* at most 16; set --config.model.max_sequence_length=17"),
    ],
)
def test_bad_text_files(refused, bad_files, name, message):
    flag = f"--config.data.text.train={bad_files(name, 'text')}"
    refused("--variant=bert", flag, message=message)


def test_a_pattern_that_is_empty(refused):
    message = "--config.data.images.train is empty; give a pattern"
    refused("--variant=vit", "--config.data.images.train=", message=message)
    message = "--config.data.text.validation is empty; give a pattern"
    refused("--variant=bert", "--config.data.text.validation=", message=message)


@pytest.mark.parametrize(
    ("split", "variant", "name", "message"),
    [
        ("train", "vit", "last_label", r"data/x.*: record 3: .*label is out of range.*: 0; write"),
        ("train", "vit", "broken_jpeg", r"data/x.*: record 3: .*Invalid JPEG.*; write .* or go on"),
        (
            "train",
            "vit",
            "no_label",
            r"data/x.*: record 3: Feature: image/class/label .* could not be found.; write",
        ),
        (
            "validation",
            "bert",
            "last_damaged",
            r"/x: record \d+: its content does not have its checksum; write",
        ),
        (
            "train",
            "bert",
            "other_length",
            r"/x.*: record \d+: .*Key: input_ids.*shape: \[16\]; wri",
        ),
    ],
)
def test_a_bad_record_behind_good_ones(refused, bad_files, split, variant, name, message):
    kind = {"vit": "images", "bert": "text"}[variant]
    flag = f"--config.data.{kind}.{split}={bad_files(name, kind)}"
    refused(f"--variant={variant}", flag, "--config.steps=4", message=message, untouched=False)


def test_a_bad_record_that_training_does_not_reach(refused, bad_files, tmp_path):
    """The baselines read it: training is over, and is not lost."""
    flags = ["--variant=vit", f"--config.data.images.train={bad_files('last_label')}"]
    flags += [
        "--config.steps=1",
        "--config.optimizer.warmup_steps=0",
        "--config.image_batch=1",
        "--config.seed=1",
    ]
    message = r"data/\*: an image label is out of range"
    refused(*flags, message=message, untouched=False)
    assert (tmp_path / "run" / "metrics.csv").exists()
    assert not (tmp_path / "run" / "summary.json").exists()


def pretrained_on(strategy, config, variant, folder):
    """Runs a variant under a strategy, as far as that goes without data."""
    variant = variants.find_variant(variant)
    config = variants.apply_variant(config, variant)
    return run_pretraining(
        PretrainingRun(config, RunFolder(str(folder)), None, strategy, None, variant)
    )


def test_batches_that_the_replicas_cannot_share(sources, tmp_path):
    three = types.SimpleNamespace(num_replicas_in_sync=3)
    for variant, flag, key in (
        ("vit", "--config.image_batch=5", "image_batch=5"),
        ("bert", "--config.image_batch=3", "text_batch=4"),
        ("joint", "--config.text_batch=6", "image_batch=4"),
    ):
        message = f"--config.{key}: must be a multiple of the number of replicas, 3"
        with pytest.raises(UserError, match=message):
            pretrained_on(three, config_of(sources, flag), variant, tmp_path / "x")
    config = config_of(sources, "--config.image_batch=6", "--config.data.images.mixup=0.5")
    two = types.SimpleNamespace(num_replicas_in_sync=2)
    with pytest.raises(UserError, match=r"image_batch=6: .* replicas, 2, twice as images are mix"):
        pretrained_on(two, config, "vit", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_bad_vocabularies(refused, tmp_path):
    path = tmp_path / "vocab.txt"
    flags = ["--variant=bert", f"--config.data.vocabulary={path}"]
    refused(*flags, message=r"vocab\.txt: no such vocabulary; ")
    for tokens, message in (
        ([*VOCABULARY, "word0"], r"vocab\.txt: 'word0' is there twice; keep one"),
        (VOCABULARY[1:], r"vocab\.txt: \[PAD\] missing; take a vocabulary"),
        ([*VOCABULARY, "new"], r"has 37 entries, .* set --config.model.vocabulary_size=37"),
    ):
        path.write_text("\n".join(tokens) + "\n")
        refused(*flags, message=message)
    refused("--variant=bert", "--config.data.vocabulary=", message="vocabulary is empty; give")
    path.write_bytes(b"\xff\xfe")
    refused(*flags, message=r"vocab\.txt: cannot be read as a vocabulary")


# --- folders -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--variant=bert"], "variant=vit, not bert; go on with --variant=vit or use another"),
        (
            ["--variant=vitbert"],
            "variant=vit, not vitbert; go on with --variant=vit or use another",
        ),
        (
            ["--variant=vit", "--config.model.hidden_dim=16"],
            "hidden_dim=8, not 16; go on with --config.model.hidden_dim=8",
        ),
        (
            ["--variant=vit", "--config.seed=4"],
            "config.seed=3, not 4; go on with --config.seed=3 or use another --output_dir",
        ),
        (["--variant=vit", "--config.steps=12"], "config.steps=10, not 12; go on with --config.st"),
    ],
)
def test_a_run_of_other_settings_in_the_folder(refused, finished, flags, message):
    refused(*flags, message=message, output_dir=finished("vit"))


def test_another_vocabulary_than_that_of_the_run(refused, finished, tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*VOCABULARY[:-1], "other"]) + "\n")
    flags = ["--variant=bert", f"--config.data.vocabulary={path}"]
    folder = finished("bert")
    message = rf"another vocabulary; use that one \({folder}/vocabulary.txt\) or another --output"
    refused(*flags, message=message, output_dir=folder)


def test_a_folder_that_is_none(refused, tmp_path):
    file = tmp_path / "file"
    file.write_text("here")
    for folder in (file, file / "below"):
        message = f"--output_dir={folder}: cannot be written to .*; give another folder"
        refused("--variant=vit", message=message, output_dir=folder)
    assert file.read_text() == "here"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(refused, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    refused("--variant=vit", message="cannot be written to", output_dir=folder)


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"variant": "vit"}'])
def test_a_damaged_record_of_the_run(refused, unfinished, content):
    (unfinished / "config.json").write_text(content)
    refused(
        "--variant=vit", message=r"config\.json is damaged .*; mend it or", output_dir=unfinished
    )


def test_a_damaged_summary(refused, unfinished):
    (unfinished / "summary.json").write_text('{"steps": ')
    refused(
        "--variant=vit", message=r"summary\.json is damaged .*; mend it or", output_dir=unfinished
    )


def test_damaged_metrics(refused, unfinished):
    for content in (b"loss\n1\n", b"step,loss\nx,1\n", b"\xff\xfe"):
        (unfinished / "metrics.csv").write_bytes(content)
        message = r"metrics\.csv is damaged .*; mend it or"
        refused("--variant=vit", message=message, output_dir=unfinished, untouched=False)


def test_a_damaged_checkpoint(refused, unfinished):
    data = unfinished / "checkpoints" / "step-00000010" / "state.data-00000-of-00001"
    content = data.read_bytes()
    data.write_bytes(content[: len(content) // 2])
    message = r"step-00000010 cannot be loaded .*it is damaged or of another model"
    refused("--variant=vit", message=message, output_dir=unfinished, untouched=False)
    (unfinished / "checkpoints" / "LAST").write_text("step-00000099\n")
    message = r"LAST names .*step-00000099, which is no whole checkpoint; write"
    refused("--variant=vit", message=message, output_dir=unfinished, untouched=False)


# --- teachers ----------------------------------------------------------------------------------


def test_teachers_that_are_no_runs(refused, finished, unfinished, tmp_path):
    for folder, message in (
        (tmp_path / "nowhere", "--image_teacher=.*/nowhere: no such folder, file or preset; give"),
        (tmp_path, r"--image_teacher=.*: holds no model \(there is no config.json\); give the fo"),
        (unfinished, "--image_teacher=.*/unfinished: .* not finished; run its command again"),
        (finished("bert"), "--image_teacher=.*: is a run of --variant=bert, which has no images"),
    ):
        refused("--variant=vitbert", f"--image_teacher={folder}", message=message)
    flags = [f"--image_teacher={finished('vit')}", f"--text_teacher={finished('vit')}"]
    message = "--text_teacher=.*: is a run of --variant=vit, which has no texts"
    refused("--variant=vitbert_no_gm", *flags, message=message)


def test_teachers_that_see_something_else(refused, finished, tmp_path):
    vit, bert = f"--image_teacher={finished('vit')}", f"--text_teacher={finished('bert')}"
    for flags, message in (
        (["--config.model.image_size=12"], "--image_teacher=.* 8 pixels, the student 12; set"),
        (["--config.model.num_classes=4"], "--image_teacher=.* 3 classes, the student 4; give"),
        (["--config.model.vocabulary_size=40"], "--text_teacher=.* 36 .*the student 40; "),
    ):
        refused("--variant=vitbert", vit, bert, *flags, message=message)


def test_a_teacher_of_another_vocabulary(refused, finished, tmp_path):
    other = write_sources(tmp_path, seed=1)
    tokens = [*VOCABULARY[:-1], "other"]
    (other / "vocab.txt").write_text("\n".join(tokens) + "\n")
    flags = [f"--image_teacher={finished('vit')}", f"--text_teacher={finished('bert')}"]
    flags += [f"--config.data.vocabulary={other / 'vocab.txt'}"]
    message = r"--text_teacher=.*: has another vocabulary \(.*/vocabulary\.txt\); give a teacher"
    refused("--variant=vitbert", *flags, message=message)


# --- the command itself ------------------------------------------------------------------------


def test_one_line_on_stderr(sources, tmp_path):
    """TensorFlow's own notes are kept back."""
    flags = ["--variant=vit", "--config.data.images.train=nothing-*", f"--output_dir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "keras_vitbert.pretrain", *arguments(sources, *flags)],
        cwd=pathlib.Path(__file__).parents[2],
        env={k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"},
        capture_output=True,
        text=True,
    )
    assert done.stderr == "error: no file matches nothing-*; mend --config.data.images.train\n"
    assert done.returncode == EXIT_BAD_INPUT and done.stdout == ""
    assert not os.listdir(tmp_path)


def test_debug_shows_where(sources, tmp_path, capsys):
    flags = ["--variant=vit", "--config.data.images.train=nothing-*", "--debug"]
    assert pretrain(sources, tmp_path, *flags) == EXIT_BAD_INPUT
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first.startswith("Traceback") and last.startswith("error: no file matches nothing-*")
