"""Fixtures of the tests of trained models: presets and models of other projects."""

import functools

import pytest

from keras_vitbert.model.classifier import build_classifier
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.trained.trained_model import TrainedModel
from tests.keras_vitbert.trained.student import assert_refused
from tests.keras_vitbert.trained.words import CLASSES, VOCABULARY


@pytest.fixture(scope="session")
def full_model(tiny, randomize):
    """A model with all heads that a run can leave."""
    tiny = {**tiny, "vocabulary_size": len(VOCABULARY)}
    network = randomize(build_network(tiny), 0)
    text = randomize(build_classifier(tiny, "text", 2), 1)
    heads = {"image": network.image_head, "text": text.head, "mlm": network.mlm_head}
    return TrainedModel("runs/r", "r", network.backbone, heads, CLASSES, VOCABULARY, True, 0.75)


@pytest.fixture
def refused(config):
    """`refused(kind, path, message, **data)`: the teacher is refused."""
    return functools.partial(assert_refused, config)
