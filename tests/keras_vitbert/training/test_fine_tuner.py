"""The step of fine-tuning against its arithmetic in NumPy, and its options."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.training.optimizers import WeightAverages, averaged
from tests.keras_vitbert.training.joint_steps import step, weights
from tests.keras_vitbert.training.reference import cross_entropy, log_softmax

STEPS = 6


def gradients_of(tuner, batch):
    """The gradient of the plain mean of cross-entropies, by Keras' own loss."""
    with tf.GradientTape() as tape:
        logits = tuner.network(batch, training=True)
        losses = keras.losses.sparse_categorical_crossentropy
        loss = tf.reduce_mean(losses(batch["labels"], logits, from_logits=True))
    gradients = tape.gradient(loss, [v.value for v in tuner.network.trainable_variables])
    return [np.float64(tf.convert_to_tensor(g)) for g in gradients]


@pytest.mark.parametrize(("kind", "clip_norm"), [("images", 0.1), ("text", 100.0)])
def test_momentum_cosine_and_global_clip(make_tuner, labelled_batches, kind, clip_norm):
    """The vision recipe: `m = 0.9 m - rate g`, `w = w + m`, on either modality."""
    tuner = make_tuner(kind, clip_norm, name="sgd", schedule="cosine", learning_rate=0.3, warmup=0)
    tuner.optimizer.weight_decay = None
    momenta = [np.zeros_like(value) for value in weights(tuner)]
    for number, batch in enumerate(labelled_batches):
        before = weights(tuner)
        logits = np.asarray(tuner.network(batch))
        found = gradients_of(tuner, batch)
        logs = step(tuner, batch)
        norm = math.sqrt(sum((g**2).sum() for g in found))
        assert logs["gradient_norm"] == pytest.approx(norm, rel=1e-4)
        assert (norm > clip_norm) == (clip_norm == 0.1)
        if number == 0:
            loss = cross_entropy(batch["labels"], logits).mean()
            assert logs["loss"] == pytest.approx(loss, rel=1e-5)
            right = np.mean(logits.argmax(-1) == batch["labels"])
            assert logs["accuracy"] == pytest.approx(right)
        rate = 0.3 * (1 + math.cos(math.pi * number / STEPS)) / 2
        scale = min(1.0, clip_norm / norm)
        momenta = [0.9 * m - rate * scale * g for m, g in zip(momenta, found, strict=True)]
        for ours, old, momentum in zip(weights(tuner), before, momenta, strict=True):
            np.testing.assert_allclose(ours, old + momentum, atol=2e-6)


def test_smoothing_and_mixed_labels_are_in_the_loss(make_tuner, labelled_batches):
    batch = {**labelled_batches[0], "mix_labels": np.array([2, 1, 0, 2], np.int32)}
    batch["mix_weights"] = np.array([0.5, 0.6, 0.9, 1.0], np.float32)
    tuner = make_tuner("images", label_smoothing=0.1)
    logs_p = log_softmax(tuner.network(batch))
    share, eye = batch["mix_weights"][:, None], np.eye(3)
    target = share * eye[batch["labels"]] + (1 - share) * eye[batch["mix_labels"]]
    target = 0.9 * target + 0.1 / 3
    loss = step(tuner, batch)["loss"]
    assert loss == pytest.approx(-(target * logs_p).sum(-1).mean(), rel=1e-5)


def test_the_average_of_weights_takes_their_place(make_tuner, labelled_batches):
    tuner = make_tuner("text", ema=0.7, warmup=0, learning_rate=0.01)
    wanted = None
    for batch in labelled_batches:
        step(tuner, batch)
        now = weights(tuner)
        pairs = zip(wanted or now, now, strict=True)
        wanted = [0.7 * old + 0.3 * new for old, new in pairs]

    def assert_averaged():
        for ours, average in zip(weights(tuner), wanted, strict=True):
            np.testing.assert_allclose(ours, average, atol=1e-6)

    def assert_as_trained():
        for ours, trained in zip(weights(tuner), now, strict=True):
            np.testing.assert_array_equal(ours, trained)

    with averaged(tuner):
        assert_averaged()
    assert_as_trained()
    callback = WeightAverages(steps=3)
    callback.set_model(tuner)
    tuner.step = 2
    callback.on_test_begin()
    assert_averaged()
    callback.on_test_end()
    callback.on_epoch_end(0)
    assert_as_trained()
    tuner.step = 3
    callback.on_epoch_end(1)
    assert_averaged()
    with averaged(tuner):
        assert_averaged()
