"""What fine-tuning starts from."""

import pathlib
import shutil

import numpy as np
import pytest

from keras_vitbert.configs import fine_tuning
from keras_vitbert.experiments.fine_tuning import pretrained
from keras_vitbert.experiments.fine_tuning.pretrained import open_pretrained
from keras_vitbert.trained.loading import load
from tests.keras_vitbert import tiny_runs
from tests.keras_vitbert.trained.stored_models import FIXTURES
from tests.keras_vitbert.trained.student import TOKENS


def config_of(kind, **options):
    """What a classifier is built by."""
    config = fine_tuning.get_config("", kind)
    return config.with_values({"dropout": 0.0, "dtype": "float32", **options})


@pytest.mark.parametrize(("kind", "name"), [("images", "deit"), ("text", "bert")])
def test_fine_tuning_begins_with_a_model_of_another_project(kind, name):
    path = str(FIXTURES / name)
    pretrained, backbone = (
        open_pretrained(path, modalities=[kind.removesuffix("s")]),
        load(path).backbone,
    )
    assert pretrained.step == 0
    assert pretrained.vocabulary == (None if kind == "images" else TOKENS)
    size = {"image_size": 9} if kind == "images" else {"max_length": 19}
    classifier, done = pretrained.classifier(config_of(kind, **size), [2])
    assert (done["encoder"], done["embedding"]) == ("kept", "kept")
    for ours in (pretrained.backbone, classifier.backbone):
        assert ours.norm == backbone.norm and ours.layer_norm_epsilon == backbone.layer_norm_epsilon
        for our, their in zip(ours.weights, backbone.weights, strict=True):
            np.testing.assert_array_equal(our.value, their.value, err_msg=our.path)


def test_a_head_of_berts_kind_begins_with_the_pooler(monkeypatch):
    """So a checkpoint of another pooler is another."""
    path = str(FIXTURES / "bert")
    before = open_pretrained(path, modalities=["text"])
    classifier, done = before.classifier(config_of("text", head="bert", max_length=19), [2])
    assert done["head"] == "pooler kept, rest fresh"
    pooler = load(path).network.nsp_head.hidden.kernel
    np.testing.assert_array_equal(classifier.head.hidden.kernel, pooler)
    assert open_pretrained(path, modalities=["text"]).sha256 == before.sha256
    opened = load(path)
    opened.network.nsp_head.hidden.bias.assign_add([1.0] * opened.backbone.hidden_dim)
    monkeypatch.setattr(pretrained, "open_source", lambda source: opened)
    assert open_pretrained(path, modalities=["text"]).sha256 != before.sha256


SAVED = pathlib.Path(__file__).parents[2] / "trained" / "saved"


@pytest.mark.parametrize(
    ("checkpoint", "architecture", "patch", "size"),
    [
        ("rand", FIXTURES / "bert", 16, 224),  # as in the paper
        (SAVED / "fine_tuned_images", "", 4, 12),  # its own
    ],
)
def test_a_checkpoint_of_texts_alone_gets_a_size_of_images(checkpoint, architecture, patch, size):
    opened = open_pretrained(str(checkpoint), str(architecture), modalities=["image"])
    assert (opened.model["patch_size"], opened.model["image_size"]) == (patch, size)


def test_the_vocabulary_of_an_architecture_is_the_run_s(finished, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(finished("joint"), copy)
    opened = open_pretrained("rand", str(copy), modalities=["text"])
    assert (opened.vocabulary, opened.case) == (tiny_runs.VOCABULARY, "lower")
    assert open_pretrained(str(copy), modalities=["text"]).case == "lower"
    text = (copy / "vocabulary.txt").read_text()
    (copy / "vocabulary.txt").write_text(text.replace("word7", "work7"))
    with pytest.raises(ValueError, match="vocabulary.txt"):
        open_pretrained("rand", str(copy), modalities=["text"])
