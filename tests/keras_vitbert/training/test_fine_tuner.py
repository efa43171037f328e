"""The step of fine-tuning against its arithmetic in NumPy, and its options."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.merging import Merge, Sum
from keras_vitbert.model.classifier import build_classifier
from keras_vitbert.training.fine_tuner import FineTuner
from keras_vitbert.training.optimizers import SGD, WeightAverages, averaged
from tests.keras_vitbert.training.joint_steps import step, weights
from tests.keras_vitbert.training.reference import cross_entropy, log_softmax

STEPS = 6


def gradients_of(tuner, batch):
    """The gradient of the plain mean of cross-entropies, by Keras' own loss."""
    with tf.GradientTape() as tape:
        logits = tuner.network(batch, training=True)
        losses = keras.losses.sparse_categorical_crossentropy
        loss = tf.reduce_mean(losses(batch["image_labels"], logits, from_logits=True))
    gradients = tape.gradient(loss, [v.value for v in tuner.network.trainable_variables])
    return [np.float64(tf.convert_to_tensor(g)) for g in gradients]


@pytest.mark.parametrize(("modality", "clip_norm"), [("image", 0.1), ("text", 100.0)])
def test_momentum_cosine_and_global_clip(make_tuner, labelled_batches, modality, clip_norm):
    """The vision recipe: `m = 0.9 m - rate g`, `w = w + m`, on either modality."""
    tuner = make_tuner(
        modality, clip_norm, name="sgd", schedule="cosine", learning_rate=0.3, warmup=0
    )
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
            loss = cross_entropy(batch["image_labels"], logits).mean()
            assert logs["loss"] == pytest.approx(loss, rel=1e-5)
            right = np.mean(logits.argmax(-1) == batch["image_labels"])
            assert logs["accuracy"] == pytest.approx(right)
        rate = 0.3 * (1 + math.cos(math.pi * number / STEPS)) / 2
        scale = min(1.0, clip_norm / norm)
        momenta = [0.9 * m - rate * scale * g for m, g in zip(momenta, found, strict=True)]
        for ours, old, momentum in zip(weights(tuner), before, momenta, strict=True):
            np.testing.assert_allclose(ours, old + momentum, atol=2e-6)


def test_smoothing_and_mixed_labels_are_in_the_loss(make_tuner, labelled_batches):
    batch = {**labelled_batches[0], "image_mix_labels": np.array([2, 1, 0, 2], np.int32)}
    batch["image_mix_weights"] = np.array([0.5, 0.6, 0.9, 1.0], np.float32)
    tuner = make_tuner("image", label_smoothing=0.1)
    logs_p = log_softmax(tuner.network(batch))
    share, eye = batch["image_mix_weights"][:, None], np.eye(3)
    target = share * eye[batch["image_labels"]] + (1 - share) * eye[batch["image_mix_labels"]]
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


def test_two_tasks_are_one_step_on_the_weighted_sum_of_their_losses(
    tiny, randomize, labelled_batches
):
    """Against a tape on Keras' own losses: the shared encoder gets both, each head its own."""
    network = randomize(build_classifier(tiny, {"image": 3, "text": 3}), seed=4)
    tuner = FineTuner(network, merge=Merge(Sum(0.3)), clip_norm=100.0)
    tuner.compile(SGD(0.5))
    [batch, *_], shares = labelled_batches, {"image": 0.3, "text": 0.7}
    batch = {**batch, "text_labels": (batch["image_labels"] + 1) % 3}
    losses_of = keras.losses.sparse_categorical_crossentropy
    with tf.GradientTape() as tape:
        logits, losses = network(batch), {}
        for name in shares:
            own = losses_of(batch[f"{name}_labels"], logits[f"{name}_logits"], from_logits=True)
            losses[name] = tf.reduce_mean(own)
        loss = sum(share * losses[name] for name, share in shares.items())
    gradients = tape.gradient(loss, [v.value for v in network.trainable_variables])
    wanted = [
        old - 0.5 * np.float64(tf.convert_to_tensor(g))
        for old, g in zip(weights(tuner), gradients, strict=True)
    ]
    logs = step(tuner, batch)
    assert logs["loss"] == pytest.approx(float(loss), rel=1e-5)
    for name in shares:
        assert logs[f"{name}_loss"] == pytest.approx(float(losses[name]), rel=1e-5)
    for ours, theirs in zip(weights(tuner), wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)
