"""Probes during pre-training, beside those of the finished model computed apart."""

import numpy as np
import pytest

import keras_vitbert
from keras_vitbert.experiments.pretraining.data import open_data
from keras_vitbert.inspection.probes import Features, probe
from keras_vitbert.inspection.values import read_values
from keras_vitbert.model.pretraining_network import image_inputs
from keras_vitbert.runs.identity import config_of
from tests.keras_vitbert.tiny_runs import assert_same_values, checkpoint_values, pretrain

FLAGS = ("--config.probes.interval=4", "--config.probes.examples=100")


def by_hand(folder):
    """The accuracies of the finished model, whose features are computed apart."""
    trained = keras_vitbert.load(str(folder))
    config = config_of(trained.record)
    stream = open_data(config).stream(config)
    batches, found = list(stream.validation()), {}
    for modality, label, names in (
        ("image", "image_labels", ("images",)),
        ("text", "next_sentence_labels", ("token_ids", "segment_ids", "padding_mask")),
    ):
        values, labels = [], []
        for batch in batches:
            inputs = image_inputs(batch) if modality == "image" else batch
            outputs = trained.backbone({name: inputs[name] for name in names}, training=False)
            real = batch[f"{modality}_weights"].numpy() > 0
            values.append(np.asarray(outputs[f"{modality}_sequence"][:, 0], np.float32)[real])
            labels.append(batch[label].numpy()[real])
        values, labels = np.concatenate(values), np.concatenate(labels)
        halves = [Features(values[s::2], labels[s::2]) for s in (0, 1)]
        found |= {f"{modality}_{kind}": value for kind, value in probe(*halves).items()}
    return found


@pytest.mark.slow
def test_a_joint_run_is_probed_and_trains_as_without(sources, finished, tmp_path):
    folder = tmp_path / "joint"
    assert pretrain(sources, folder, "--variant=joint", *FLAGS) == 0
    values = read_values(str(folder), "probes")
    assert list(values) == [0, 4, 8, 10]
    expected = by_hand(folder)
    assert {"image_ridge", "image_neighbours", "text_ridge", "text_neighbours"} == set(expected)
    for name, value in expected.items():
        assert float(values[10][name]) == pytest.approx(value)
    assert_same_values(*map(checkpoint_values, (folder, finished("joint"))))


def test_examples_of_one_class():
    random = np.random.default_rng(0)
    known = Features(random.normal(size=(4, 3)).astype(np.float32), np.array([1, 1, 1, 1]))
    asked = Features(random.normal(size=(5, 3)).astype(np.float32), np.array([1, 0, 1, 2, 1]))
    assert probe(known, asked) == {"ridge": 0.6, "neighbours": 0.6}
