"""The optimiser of a fine-tuning config: which weights move, and by how much."""

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.experiments.fine_tuning.optimizer import layer_depths


def values(tuner):
    return [np.asarray(v.value, np.float64) for v in tuner.network.trainable_variables]


def run_step(tuner, batch):
    return tuner.train_step({name: tf.constant(value) for name, value in batch.items()})


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_lower_layers_are_trained_less(make_tuner, labelled_batches, name):
    """One step of each: every variable moves by its part, weight decay included."""
    options = {"name": name, "learning_rate": 0.01, "warmup": 0, "weight_decay": 0.1}
    moved = []
    for layer_decay in (1.0, 0.5):
        tuner = make_tuner("text", layer_decay=layer_decay, **options)
        before = values(tuner)
        run_step(tuner, labelled_batches[0])
        moved.append([new - old for new, old in zip(values(tuner), before, strict=True)])
    paths = [variable.path for variable in tuner.network.trainable_variables]
    depth = {"text_embedding": 0, "block_0": 1, "block_1": 2, "final_norm": 3, "head": 3}
    for path, all_of_it, part in zip(paths, *moved, strict=True):
        scale = 0.5 ** (3 - depth[path.split("/")[0]])
        np.testing.assert_allclose(part, scale * all_of_it, rtol=1e-3, atol=2e-7, err_msg=path)
    assert layer_depths(tuner.network) == [depth[path.split("/")[0]] for path in paths]


def test_low_rank_updates_leave_the_encoder_alone(make_tuner, labelled_batches):
    tuner = make_tuner("text", lora_rank=2, warmup=0, learning_rate=0.1)
    trained = {v.path for v in tuner.network.trainable_variables}
    # A and B of query and value in both blocks, and the biases of these; the head.
    inner = sorted(path.split("/")[-1] for path in trained if not path.startswith("head/"))
    assert inner == ["bias"] * 4 + ["lora_kernel_a"] * 4 + ["lora_kernel_b"] * 4
    assert len(trained) == 12 + 4
    depths = [v.path.split("/")[0] for v in tuner.network.trainable_variables]
    wanted = {"block_0": 1, "block_1": 2, "head": 3}
    assert layer_depths(tuner.network) == [wanted[part] for part in depths]
    frozen = {v.path: np.asarray(v.value) for v in tuner.network.non_trainable_variables}
    before = np.asarray(tuner.network(labelled_batches[0]))
    for batch in labelled_batches:
        run_step(tuner, batch)
    for variable in tuner.network.non_trainable_variables:
        if not variable.path.startswith("dropout"):
            np.testing.assert_array_equal(np.asarray(variable.value), frozen[variable.path])
    assert np.abs(np.asarray(tuner.network(labelled_batches[0])) - before).max() > 0.01
