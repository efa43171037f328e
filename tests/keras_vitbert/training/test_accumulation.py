"""A batch in parts is the whole batch: gradients, losses, masks, dropout and metrics."""

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.configs import merges
from keras_vitbert.merging import get_merge
from keras_vitbert.training.backends.tensorflow import sum_micro_batches
from tests.keras_vitbert.training.joint_steps import step, values, weights


def test_sums_are_those_of_all_parts():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 2, 3)), rng.normal(size=(12, 4))
    seen = []

    def function(batch, number):
        seen.append((batch["x"].shape, batch["y"].shape))
        total = tf.reduce_sum(batch["x"], axis=0) * tf.cast(number + 1, tf.float64)
        return [[total, None]], {"y": (tf.reduce_sum(batch["y"] ** 2),)}

    [[total, none]], rest = sum_micro_batches(
        function, {"x": tf.constant(x), "y": tf.constant(y)}, 3
    )
    assert none is None
    expected = sum((n + 1) * x[2 * n : 2 * n + 2].sum(0) for n in range(3))
    np.testing.assert_allclose(total, expected)
    np.testing.assert_allclose(rest["y"][0], (y**2).sum())
    assert seen == [((2, 2, 3), (4, 4))]  # traced once


def test_a_step_on_texts_in_parts(make_trainer, make_network, make_batch):
    """With weights that differ between the parts, and dropout."""
    batch = {**make_batch(3), "text_weights": np.array([1, 0, 1, 0.5], np.float32)}
    found = []
    for accumulation in (1, 2):
        network = make_network(0, num_layers=1, images=False, dropout=0.2)
        trainer = make_trainer(network=network, accumulation=accumulation)
        found.append((step(trainer, batch), weights(trainer)))
    (logs, whole), (logs_of_parts, ours) = found
    assert logs_of_parts == pytest.approx(logs, rel=1e-5)
    for a, b in zip(ours, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_validation_in_parts(make_trainer, make_network, make_batch):
    """With weights that differ between the parts: validation has the memory of a part too."""
    batch = make_batch(3)
    batch["text_weights"] = np.array([1, 0, 1, 0.5], np.float32)
    found = []
    for accumulation in (1, 4):
        trainer = make_trainer(
            get_merge(merges.Merge(name="mask")),
            network=make_network(0, num_layers=1),
            accumulation=accumulation,
        )
        trainer.test_step(make_batch(4))
        logs = trainer.test_step(batch)
        found.append({name: float(value) for name, value in logs.items()})
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_a_step_of_fine_tuning_in_parts(make_tuner, labelled_batches):
    found = []
    for accumulation in (1, 2):
        tuner = make_tuner("images", 0.1, learning_rate=0.3, warmup=0)
        tuner.accumulation = accumulation
        batch = {name: tf.constant(value) for name, value in labelled_batches[0].items()}
        logs = tuner.train_step(batch)
        logs = {name: np.max(value) for name, value in logs.items() if name != "step_row"}
        found.append((logs, values(tuner.network.trainable_variables)))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    for a, b in zip(found[1][1], found[0][1], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
