"""Folders that `pretrain` refuses to resume: one line that names the file and the fix."""

import os

import pytest

from tests.keras_vitbert.bad_calls import assert_refused
from tests.keras_vitbert.tiny_runs import VOCABULARY


@pytest.fixture
def refused(sources, tmp_path, capsys):
    """`refused(*flags, message=...)`: the call is refused, and leaves the output as it was."""

    def refused(*flags, output_dir=tmp_path / "run", **expected):
        assert_refused(sources, capsys, output_dir, *flags, **expected)

    return refused


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--variant=bert"], "variant=vit, not bert; give --variant=vit or use another"),
        (
            ["--variant=vitbert"],
            "variant=vit, not vitbert; give --variant=vit or use another",
        ),
        (
            ["--variant=vit", "--config.model.hidden_dim=16"],
            "hidden_dim=8, not 16; give --config.model.hidden_dim=8",
        ),
        (
            ["--variant=vit", "--config.seed=4"],
            "config.seed=3, not 4; give --config.seed=3 or use another --output_dir",
        ),
        (["--variant=vit", "--config.steps=12"], "config.steps=10, not 12; give --config.st"),
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
        "--variant=vit", message=r"config\.json is damaged .*; fix it or", output_dir=unfinished
    )


def test_a_damaged_summary(refused, unfinished):
    (unfinished / "summary.json").write_text('{"steps": ')
    refused(
        "--variant=vit", message=r"summary\.json is damaged .*; fix it or", output_dir=unfinished
    )


def test_damaged_metrics(refused, unfinished):
    for content in (b"loss\n1\n", b"step,loss\nx,1\n", b"\xff\xfe"):
        (unfinished / "metrics.csv").write_bytes(content)
        message = r"metrics\.csv is damaged .*; fix it or"
        refused("--variant=vit", message=message, output_dir=unfinished, untouched=False)


def test_a_damaged_checkpoint(refused, unfinished):
    data = unfinished / "checkpoints" / "step-00000010" / "state.data-00000-of-00001"
    content = data.read_bytes()
    data.write_bytes(content[: len(content) // 2])
    message = r"step-00000010 cannot be loaded .*it is damaged or belongs to another"
    refused("--variant=vit", message=message, output_dir=unfinished, untouched=False)
    (unfinished / "checkpoints" / "LAST").write_text("step-00000099\n")
    message = r"LAST names .*step-00000099, which is not a complete checkpoint; write"
    refused("--variant=vit", message=message, output_dir=unfinished, untouched=False)
