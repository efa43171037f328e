"""Folders that `pretrain` refuses to resume: one line that names the culprit."""

import os
import shutil

import pytest

from keras_vitbert.runs.run_lock import held
from pipelines.command_line import EXIT_DONE
from tests.keras_vitbert.bad_calls import assert_refused
from tests.keras_vitbert.tiny_runs import VOCABULARY, pretrain, write_sources
from tests.marks import slow


@pytest.fixture
def refused(sources, tmp_path, capsys):
    """`refused(*flags, culprit=...)`: the call is refused, and leaves the output as it was."""

    def refused(*flags, output_dir=tmp_path / "run", **expected):
        assert_refused(sources, capsys, output_dir, *flags, **expected)

    return refused


@pytest.mark.parametrize(
    ("flags", "culprit"),
    [
        (["--variant=bert"], "variant"),
        (["--variant=vitbert"], "variant"),
        (["--variant=vit", "--config.model.hidden_dim=16"], "model.hidden_dim"),
        (["--variant=vit", "--config.seed=4"], "seed"),
        (["--variant=vit", "--config.steps=12"], "steps"),
    ],
)
def test_a_run_of_other_settings_in_the_folder(refused, finished, flags, culprit):
    refused(*flags, culprit=culprit, output_dir=finished("vit"))


@pytest.mark.parametrize("change", ["config.steps=12", "config.model.num_layers=2"])
def test_a_finished_run_accepts_no_changes(refused, finished, change):
    key = change.partition("=")[0]
    flags = ["--variant=vit", f"--{change}", f"--accept_changes={key}"]
    refused(*flags, culprit=key.removeprefix("config."), output_dir=finished("vit"))


def test_an_accepted_change_is_not_recorded_beside_a_process_that_trains(refused, unfinished):
    with held(str(unfinished)):
        flags = ["--variant=vit", "--config.seed=4", "--accept_changes=config.seed"]
        refused(*flags, culprit=str(unfinished), output_dir=unfinished)


def test_a_run_that_is_to_end_where_it_is(refused, unfinished):
    flags = ["--variant=vit", "--config.steps=9", "--accept_changes=config.steps"]
    refused(*flags, culprit="steps", output_dir=unfinished)


def test_weights_to_start_from_that_come_too_late(refused, finished, unfinished):
    flags = ["--variant=vit", f"--initial_weights={finished('vit')}"]
    for accepted in ("", "initial_weights"):
        more = f"--accept_changes={accepted}"
        refused(*flags, more, culprit="initial_weights", output_dir=unfinished)


def test_another_vocabulary_than_that_of_the_run(refused, finished, tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*VOCABULARY[:-1], "other"]) + "\n")
    flags = ["--variant=bert", f"--config.data.vocabulary={path}"]
    refused(*flags, culprit=" vocabulary", output_dir=finished("bert"))


def test_other_data_than_those_of_the_run(refused, finished, sources, tmp_path):
    """As many records of the same classes, but others."""
    others = write_sources(tmp_path, seed=1)
    for split, name in (("train", "images"), ("validation", "image_validation")):
        flags = ["--variant=vit", f"--config.data.images.{split}={others}/images-{split}-*"]
        refused(*flags, culprit=f" {name}", output_dir=finished("vit"))
    for ours, theirs in ((0, 1), (1, 0)):  # the same files in another order
        file = sources / f"text-train-{ours:05}-of-00002"
        shutil.copy(file, tmp_path / f"swapped-{theirs:05}-of-00002")
    flags = ["--variant=bert", f"--config.data.text.train={tmp_path}/swapped-*"]
    refused(*flags, culprit=" texts", output_dir=finished("bert"))


def test_other_classes_than_those_of_the_run(refused, sources, finished, tmp_path):
    for split in ("train", "validation"):
        for file in sources.glob(f"images-{split}*"):
            shutil.copy(file, tmp_path)
    (tmp_path / "classes.txt").write_text("dog\ncat\ntench\n")
    flags = ["--variant=vit", f"--config.data.images.train={tmp_path}/images-train-*"]
    refused(*flags, culprit=" classes", output_dir=finished("vit"))


@pytest.mark.slow
def test_other_teachers_than_those_of_the_run(refused, finished, sources, tmp_path, capsys):
    folder, vit, text = finished("vitbert_no_gm"), finished("vit"), finished("bert")
    flags = ["--variant=vitbert_no_gm", f"--text_teacher={text}"]
    refused(*flags, culprit="image_teacher", output_dir=folder)
    steps = "--config.teachers.image_steps=4"
    refused(*flags, steps, culprit="image_teacher", output_dir=folder)

    copy = tmp_path / "vit"
    shutil.copytree(vit, copy)
    assert pretrain(sources, folder, *flags, f"--image_teacher={copy}") == EXIT_DONE
    (copy / "checkpoints" / "LAST").write_text("step-00000008\n")
    refused(*flags, f"--image_teacher={copy}", culprit="image_teacher", output_dir=folder)


@pytest.mark.slow
def test_other_teachers_of_its_own_than_those_of_the_run(refused, finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished("vitbert", own_teachers=True), folder)
    (folder / "summary.json").unlink()
    flags = ["--variant=vitbert", "--config.teachers.image_steps=4"]
    refused(*flags, culprit="teachers/vit", output_dir=folder, untouched=False)
    shutil.rmtree(folder / "teachers" / "vit")
    refused(*flags, culprit="image_teacher", output_dir=folder, untouched=False)
    assert not (folder / "summary.json").exists()


def test_a_folder_that_is_none(refused, tmp_path):
    file = tmp_path / "file"
    file.write_text("here")
    for folder in (file, file / "below"):
        refused("--variant=vit", culprit=str(file), output_dir=folder)
    assert file.read_text() == "here"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(refused, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    refused("--variant=vit", culprit=str(folder), output_dir=folder)


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"variant": "vit"}'])
def test_a_damaged_record_of_the_run(refused, unfinished, content):
    (unfinished / "config.json").write_text(content)
    refused("--variant=vit", culprit="config.json", output_dir=unfinished)


def test_a_damaged_summary(refused, unfinished):
    (unfinished / "summary.json").write_text('{"steps": ')
    refused("--variant=vit", culprit="summary.json", output_dir=unfinished)


def instead(content):
    """Damage after which a file holds something else."""
    return lambda log: content


@pytest.mark.parametrize(
    "damage",
    [
        lambda log: log[: log.rindex(b",")],  # in the last row, of the last validation
        slow(lambda log: log[: log.rindex(b",")] + b"\n"),
        slow(lambda log: log[:-1]),
        lambda log: b"".join(log.splitlines(keepends=True)[:-1]),
        slow(lambda log: log.splitlines(keepends=True)[0]),
        slow(instead(b"")),
        slow(instead(b"loss\n1\n")),
        slow(instead(b"step,loss\nx,1\n")),
        instead(b"\xff\xfe"),
    ],
)
def test_damaged_metrics(refused, unfinished, damage):
    file = unfinished / "metrics.csv"
    file.write_bytes(damage(file.read_bytes()))
    refused("--variant=vit", culprit="metrics.csv", output_dir=unfinished, untouched=False)


def test_damaged_checkpoints(refused, unfinished):
    """All of them; of several, one that is whole is used, see `runs/test_checkpoints.py`."""
    shutil.rmtree(unfinished / "checkpoints" / "step-00000008")
    data = unfinished / "checkpoints" / "step-00000010" / "state.data-00000-of-00001"
    content = data.read_bytes()
    data.write_bytes(content[: len(content) // 2])
    last = unfinished / "checkpoints" / "LAST"
    refused("--variant=vit", culprit="step-00000010", output_dir=unfinished, untouched=False)
    last.write_text("step-00000099\n")
    refused("--variant=vit", culprit="step-00000099", output_dir=unfinished, untouched=False)
