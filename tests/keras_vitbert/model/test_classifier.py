"""A backbone with one head."""

import keras
import numpy as np
import pytest

from keras_vitbert.model.classifier import Classifier, build_classifier


def test_a_classifier_round_trips(tiny, randomize, make_batch, tmp_path):
    network, batch = randomize(build_classifier(tiny, "text", 3), seed=4), make_batch(0)
    network.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(batch), network(batch))


def test_a_classifier_has_one_modality(network):
    with pytest.raises(ValueError, match="takes images and text"):
        Classifier(network.backbone, 3)
