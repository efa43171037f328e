"""Teachers of `pretrain`: made on demand, given, or from elsewhere."""

import json
import os
import shutil

import numpy as np
import pytest

from keras_vitbert import load
from keras_vitbert.experiments.pretraining import run as pretraining
from pipelines.command_line import EXIT_BAD_INPUT, EXIT_DONE, EXIT_STOPPED, Stopped
from tests.keras_vitbert.tiny_runs import (
    VOCABULARY,
    assert_same_values,
    checkpoint_values,
    config_of,
    content_of,
    files_below,
    metrics_rows,
    pretrain,
    summary_of,
)
from tests.keras_vitbert.trained.stored_models import FIXTURES
from tests.keras_vitbert.whole_runs import validate


@pytest.mark.slow
def test_teachers_are_runs_of_their_own(finished, sources):
    folder = finished("vitbert", own_teachers=True) / "teachers"
    assert sorted(os.listdir(folder)) == ["bert", "vit"]
    for name, steps in (("vit", 3), ("bert", 4)):
        summary = summary_of(folder / name)
        assert (summary["variant"], summary["steps"]) == (name, steps)
        trained = load(str(folder / name))
        network, record = trained.network, trained.record
        assert record["experiment"]["model"] == json.loads(
            json.dumps(config_of(sources).model.to_dict())
        )
        found = {n: v for n, v in summary["validation"].items() if n != "loss"}
        assert found == pytest.approx(validate(network, sources), rel=1e-5)


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


@pytest.mark.slow
def test_given_teachers_teach_and_are_left_alone(finished):
    teachers = [finished("vit"), finished("bert")]
    before = [files_below(teacher) for teacher in teachers]
    run = finished("vitbert_no_gm")
    assert not (run / "teachers").exists()
    assert [files_below(teacher) for teacher in teachers] == before
    # The same but for the teachers, and nothing of them is in the checkpoint.
    with_teachers, without = checkpoint_values(run), checkpoint_values(finished("joint"))
    assert set(with_teachers) == set(without)
    weights = [n for n in without if n.startswith("network") and n.find("kernel") > 0]
    assert weights and not any(np.array_equal(without[n], with_teachers[n]) for n in weights)


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


@pytest.mark.thorough
def test_stopped_with_teachers_from_elsewhere_it_ends_the_same(
    folders, sources, finished, tmp_path, signal_at
):
    wanted = tmp_path / "wanted"
    assert pretrain(sources, wanted, *flags(folders)) == EXIT_DONE
    assert not (wanted / "teachers").exists()
    ours, others = checkpoint_values(wanted), checkpoint_values(finished("joint"))
    weights = [name for name in ours if name.startswith("network") and "kernel" in name]
    assert weights and not any(np.array_equal(ours[name], others[name]) for name in weights)

    folder = tmp_path / "run"
    signal_at("batch", "joint", 6)
    assert pretrain(sources, folder, *flags(folders)) == EXIT_STOPPED
    assert not (folder / "summary.json").exists()
    assert pretrain(sources, folder, *flags(folders)) == EXIT_DONE
    assert content_of(folder / "summary.json")["resumed_from_step"] == 6
    assert_same_values(checkpoint_values(folder), checkpoint_values(wanted))
    assert metrics_rows(folder) == metrics_rows(wanted)


def test_nothing_is_written_where_a_teacher_is_refused(folders, refused):
    given = flags(folders)
    given[-1] = f"--text_teacher={FIXTURES / 'bert'}"
    refused(*given, culprit=str(FIXTURES / "bert"))


def test_a_teacher_of_other_answers_is_refused(folders, sources, tmp_path, monkeypatch, capsys):
    """Its weights are the same; but for its name, nothing else may change."""

    def stop(*arguments):
        raise Stopped("begun")

    monkeypatch.setattr(pretraining, "_trained", stop)
    own = shutil.copytree(folders, tmp_path / "teachers")

    def begin():
        status = pretrain(sources, tmp_path / "run", *flags(own))
        return status, capsys.readouterr().err.splitlines()[-1]

    assert begin()[0] == EXIT_STOPPED
    before = content_of(tmp_path / "run" / "config.json")
    for kind, file, key, value in (
        ("image", "vit/preprocessor_config.json", "image_mean", [0.1, 0.2, 0.3]),
        ("image", "vit/preprocessor_config.json", "image_std", [0.1, 0.2, 0.3]),
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
