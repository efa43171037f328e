"""A batch in parts is the whole batch: gradients, losses, masks, dropout and metrics."""

import numpy as np
import pytest

from tests.keras_vitbert.training.joint_steps import step, tensors, weights


def assert_alike(found):
    """Logs, and values of variables."""
    (logs, whole), (logs_of_parts, ours) = found
    assert logs_of_parts == pytest.approx(logs, rel=1e-5)
    for a, b in zip(ours, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_a_step_on_texts_in_parts(make_trainer, make_network, make_batch):
    """With weights that differ between the parts, and dropout; a validation in parts, too."""
    batch = {**make_batch(3), "text_weights": np.array([1, 0, 1, 0.5], np.float32)}
    found = []
    for accumulation in (1, 2):
        network = make_network(0, num_layers=1, images=False, dropout=0.2)
        trainer = make_trainer(network=network, accumulation=accumulation)
        logs = step(trainer, batch)
        tested = trainer.test_step(tensors(batch))
        logs |= {f"validation {name}": float(value) for name, value in tested.items()}
        found.append((logs, weights(trainer)))
    assert_alike(found)


def test_a_step_of_fine_tuning_in_parts(make_tuner, labelled_batches):
    found = []
    for accumulation in (1, 2):
        tuner = make_tuner("image", 0.1, learning_rate=0.3, warmup=0)
        tuner.accumulation = accumulation
        found.append((step(tuner, labelled_batches[0]), weights(tuner)))
    assert_alike(found)
