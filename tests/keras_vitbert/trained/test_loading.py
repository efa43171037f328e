"""`load`: runs of both commands, presets and exports as one kind of object."""

import json
import pathlib
import shutil

import numpy as np
import pytest

import keras_vitbert
from keras_vitbert.model.classifier import Classifier
from keras_vitbert.model.pretraining_network import PreTrainingNetwork
from tests.keras_vitbert.tiny_runs import (
    CLASS_NAMES,
    VOCABULARY,
    checkpoint_values,
    config_of,
    content_of,
)

SAVED = pathlib.Path(__file__).parent / "saved"


def test_a_run_is_its_last_checkpoint(finished, sources):
    folder = finished("joint")
    trained = keras_vitbert.load(str(folder))
    assert isinstance(trained.network, PreTrainingNetwork)
    assert (trained.path, trained.name, trained.step) == (str(folder), "joint", 10)
    assert trained.checkpoint == str(folder / "checkpoints" / "step-00000010")
    assert trained.classes == CLASS_NAMES and trained.vocabulary == VOCABULARY
    assert set(trained.heads) == {"image", "mlm"} and trained.backbone is trained.network.backbone
    assert trained.central_crop == config_of(sources).data.images.central_crop
    assert trained.record == content_of(folder / "config.json")
    assert trained.summary == content_of(folder / "summary.json")
    stored = checkpoint_values(folder)
    for variable in trained.network.trainable_variables:
        name = f"network/{variable.path.replace('/', '.S')}/.ATTRIBUTES/VARIABLE_VALUE"
        np.testing.assert_array_equal(variable.value, stored[name], err_msg=name)


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


def test_an_older_checkpoint_is_told(finished, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(finished("vit"), copy)
    capsys.readouterr()
    keras_vitbert.load(str(copy))
    assert capsys.readouterr().err == ""
    (copy / "checkpoints" / "LAST").write_text("step-00000008\n")
    assert keras_vitbert.load(str(copy)).step == 8
    line = f"{copy}/checkpoints/step-00000008: is an older checkpoint, the run ended at step 10\n"
    assert capsys.readouterr().err == line


def test_what_is_not_whole_is_refused(finished, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(finished("vit"), copy)
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(ValueError, match=f"^{copy}/checkpoints: "):
        keras_vitbert.load(str(copy))
    copy = tmp_path / "fine_tuned"
    shutil.copytree(SAVED / "fine_tuned_images", copy)
    (copy / "classes.txt").rename(copy / "classes")
    with pytest.raises(ValueError, match=f"^{copy}: "):
        keras_vitbert.load(str(copy))
    (copy / "classes").rename(copy / "classes.txt")
    shutil.rmtree(copy / content_of(copy / "summary.json")["model"] / "checkpoints")
    with pytest.raises(ValueError, match=f"^{copy}/.*/checkpoints: "):
        keras_vitbert.load(str(copy))


def test_another_vocabulary_than_that_of_the_run_is_refused(tmp_path):
    """Its tokens would be other numbers, and the answers wrong."""
    copy = tmp_path / "run"
    shutil.copytree(SAVED / "fine_tuned_texts", copy)
    file = copy / "vocabulary.txt"
    special, words = file.read_text().splitlines()[:5], file.read_text().splitlines()[5:]
    file.write_text("".join(f"{token}\n" for token in [*special, *reversed(words)]))
    with pytest.raises(ValueError, match=r"vocabulary\.txt: "):
        keras_vitbert.load(str(copy))


def test_other_classes_than_those_of_the_run_are_refused(finished, tmp_path):
    for run, other in ((SAVED / "fine_tuned_images", "red"), (finished("vit"), "cat")):
        copy = tmp_path / run.name
        shutil.copytree(run, copy)
        names = (copy / "classes.txt").read_text().splitlines()
        assert other in names
        (copy / "classes.txt").write_text("\n".join(sorted(names, reverse=True)) + "\n")
        with pytest.raises(ValueError, match=r"classes\.txt: "):
            keras_vitbert.load(str(copy))
    for change in (lambda file: file.write_text(""), lambda file: file.unlink()):
        change(copy / "classes.txt")
        with pytest.raises(ValueError, match=r"classes\.txt: "):
            keras_vitbert.load(str(copy))


@pytest.mark.parametrize(("case", "lower"), [("auto", True), ("cased", False)])
def test_the_case_of_texts_is_the_run_s(tmp_path, case, lower):
    copy = tmp_path / "run"
    shutil.copytree(SAVED / "fine_tuned_texts", copy)
    record = content_of(copy / "config.json")
    record["experiment"]["data"]["case"] = case
    (copy / "config.json").write_text(json.dumps(record))
    assert keras_vitbert.load(str(copy)).lower_case == lower


def test_an_export_holds_no_keras_model():
    with pytest.raises(ValueError, match="export/vitbert"):
        keras_vitbert.load(str(SAVED / "export" / "vitbert"))
