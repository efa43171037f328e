"""`load`: runs of both commands, presets and exports as one kind of object."""

import json
import pathlib
import shutil

import numpy as np
import pytest

import keras_vitbert
from keras_vitbert.model.classifier import Classifier
from keras_vitbert.model.pretraining_network import PreTrainingNetwork
from tests.keras_vitbert.tiny_runs import checkpoint_values, content_of

SAVED = pathlib.Path(__file__).parent / "saved"


@pytest.fixture
def saved(tmp_path):
    """`saved(name) -> folder`, a copy that may be damaged."""
    return lambda name: shutil.copytree(SAVED / name, tmp_path / name, dirs_exist_ok=True)


def changed(path, change):
    """The JSON of a file of a run, after a change, is written."""
    content = content_of(path)
    change(content)
    path.write_text(json.dumps(content))


def test_a_run_is_its_last_checkpoint(saved, capsys):
    folder = saved("run")
    changed(
        folder / "config.json",
        lambda record: record["experiment"]["data"]["images"].update(central_crop=0.5),
    )
    trained = keras_vitbert.load(str(folder))
    assert isinstance(trained.network, PreTrainingNetwork)
    assert (trained.path, trained.name, trained.step) == (str(folder), "vitbert", 10)
    assert trained.checkpoint == str(folder / "checkpoints" / "step-00000010")
    assert trained.classes == (folder / "classes.txt").read_text().split()
    assert trained.vocabulary == (folder / "vocabulary.txt").read_text().split()
    assert set(trained.heads) == {"image", "mlm"} and trained.backbone is trained.network.backbone
    assert trained.central_crop == 0.5
    stored = checkpoint_values(folder)
    for variable in trained.network.trainable_variables:
        name = f"network/{variable.path.replace('/', '.S')}/.ATTRIBUTES/VARIABLE_VALUE"
        np.testing.assert_array_equal(variable.value, stored[name], err_msg=name)
    # One that is not of the run's last step is told.
    assert capsys.readouterr().err == ""
    changed(folder / "summary.json", lambda summary: summary.update(steps=12))
    keras_vitbert.load(str(folder))
    assert capsys.readouterr().err.startswith(f"{trained.checkpoint}: is an older checkpoint")


@pytest.mark.parametrize(
    ("name", "head", "classes"),
    [("fine_tuned_images", "image", 3), ("fine_tuned_texts", "text", 2)],
)
def test_a_fine_tuned_run_is_its_median_model(name, head, classes):
    trained = keras_vitbert.load(str(SAVED / name))
    assert isinstance(trained.network, Classifier) and list(trained.heads) == [head]
    assert len(trained.classes) == trained.heads[head].num_classes == classes
    model = SAVED / name / trained.summary["model"]
    assert pathlib.Path(trained.checkpoint).parent == model / "checkpoints"
    assert not trained.has_lora  # it is in the kernels
    assert (trained.vocabulary is not None) == (head == "text")


@pytest.mark.parametrize(
    ("name", "away"),
    [
        ("run", "checkpoints"),
        ("run", "classes.txt"),
        ("fine_tuned_images", "classes.txt"),
        ("fine_tuned_images", "summary.json"),
    ],
)
def test_what_is_not_whole_is_refused(saved, refused, name, away):
    folder = saved(name)
    (folder / away).rename(folder / "away")
    refused(folder, name)


def test_another_vocabulary_than_that_of_the_run_is_refused(saved, refused):
    """Its tokens would be other numbers, and the answers wrong."""
    file = saved("fine_tuned_texts") / "vocabulary.txt"
    special, words = file.read_text().splitlines()[:5], file.read_text().splitlines()[5:]
    file.write_text("".join(f"{token}\n" for token in [*special, *reversed(words)]))
    refused(file.parent, r"vocabulary\.txt: ")


@pytest.mark.parametrize("name", ["fine_tuned_images", "run"])
def test_other_classes_than_those_of_the_run_are_refused(saved, refused, name):
    file = saved(name) / "classes.txt"
    names = file.read_text().splitlines()
    file.write_text("\n".join(sorted(names, reverse=True)) + "\n")
    refused(file.parent, r"classes\.txt: ")


@pytest.mark.parametrize(("case", "lower"), [("auto", True), ("cased", False)])
def test_the_case_of_texts_is_the_run_s(saved, case, lower):
    folder = saved("fine_tuned_texts")
    changed(folder / "config.json", lambda record: record["experiment"]["data"].update(case=case))
    assert keras_vitbert.load(str(folder)).lower_case == lower


def test_an_export_holds_no_keras_model(refused):
    refused(SAVED / "export" / "vitbert", "export/vitbert")
