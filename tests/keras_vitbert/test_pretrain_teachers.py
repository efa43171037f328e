"""Teachers of `pretrain`: made on demand, given, or from elsewhere."""

import json
import shutil

import numpy as np
import pytest

from keras_vitbert import load
from keras_vitbert.experiments.pretraining import run as pretraining
from pipelines.command_line import EXIT_BAD_INPUT, EXIT_STOPPED, Stopped
from tests.keras_vitbert.tiny_runs import (
    VOCABULARY,
    content_of,
    files_below,
    pretrain,
)
from tests.keras_vitbert.trained.stored_models import FIXTURES


def test_given_teachers_are_used(finished, sources, tmp_path, monkeypatch):
    loaded = {}
    load_teacher = pretraining.load_teacher

    def spy(kind, path, *others):
        loaded[kind] = path, load_teacher(kind, path, *others)
        if kind == "text":
            raise InterruptedError  # both are there; nothing need be trained
        return loaded[kind][1]

    teachers = {"image": finished("vit"), "text": finished("bert")}
    before = [files_below(teacher) for teacher in teachers.values()]
    with monkeypatch.context() as patched, pytest.raises(InterruptedError):
        patched.setattr(pretraining, "load_teacher", spy)
        flags = [f"--{kind}_teacher={teacher}" for kind, teacher in teachers.items()]
        pretrain(sources, tmp_path / "run", "--variant=vitbert_no_gm", *flags)
    for kind, teacher in teachers.items():
        path, network = loaded[kind]
        assert path == str(teacher)
        own = load(str(teacher)).network
        for ours, theirs in zip(network.weights, own.weights, strict=True):
            np.testing.assert_array_equal(ours.value, theirs.value)
    assert [files_below(teacher) for teacher in teachers.values()] == before


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folder of `vit` and `bert`: the fixtures, by the words and classes of the tiny data.

    The BERT has a row more than there are words; the ViT's images are larger than the student's.
    """
    folder = tmp_path_factory.mktemp("teachers")
    for name in ("vit", "bert"):
        shutil.copytree(FIXTURES / name, folder / name)
    (folder / "bert" / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY))
    config = content_of(folder / "vit" / "config.json")
    config["id2label"] = {"0": "Cat", "1": "dog, Canis familiaris", "2": "n01440764"}
    (folder / "vit" / "config.json").write_text(json.dumps(config))
    return folder


def flags(folders):
    return [
        "--variant=vitbert_no_gm",
        "--config.inspection.gradient_interval=0",  # one function less to trace
        f"--image_teacher={folders / 'vit'}",
        f"--text_teacher={folders / 'bert'}",
    ]


def test_a_teacher_of_other_answers_is_refused(folders, sources, tmp_path, monkeypatch, capsys):
    """Its weights are the same; but for its name, nothing else may change."""

    def stop(*arguments):
        raise Stopped("begun")

    monkeypatch.setattr(pretraining, "_train", stop)
    own = shutil.copytree(folders, tmp_path / "teachers")

    def begin():
        status = pretrain(sources, tmp_path / "run", *flags(own))
        return status, capsys.readouterr().err.splitlines()[-1]

    assert begin()[0] == EXIT_STOPPED
    before = content_of(tmp_path / "run" / "config.json")
    for kind, file, key, value in (
        ("image", "vit/preprocessor_config.json", "image_mean", [0.1, 0.2, 0.3]),
        ("image", "vit/config.json", "layer_norm_eps", 0.07),
        ("text", "bert/config.json", "hidden_act", "relu"),
        ("", "bert/config.json", "hidden_dropout_prob", 0.3),
        ("", "vit/config.json", "_name_or_path", "elsewhere"),
    ):
        content = content_of(own / file)
        (own / file).write_text(json.dumps({**content, key: value}))
        status, line = begin()
        if kind:
            assert status == EXIT_BAD_INPUT and f"{kind}_teacher" in line, key
        else:
            assert status == EXIT_STOPPED, line
        assert content_of(tmp_path / "run" / "config.json") == before
        (own / file).write_text(json.dumps(content))
