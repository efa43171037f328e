"""The step of fine-tuning against its arithmetic in NumPy, and its options."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.configs import fine_tuning
from keras_vitbert.fine_tuning.optimizer import build_optimizer, layer_depths
from keras_vitbert.model.classifier import build_classifier
from keras_vitbert.training.fine_tuner import FineTuner, WeightAverage
from keras_vitbert.training.losses import smoothed_cross_entropy
from keras_vitbert.training.optimizers import WarmupCosineDecay

STEPS = 6


@pytest.fixture
def make_tuner(tiny, randomize):
    """`make_tuner(kind, clip_norm, label_smoothing, lora_rank, **optimizer) -> FineTuner`."""

    def make(kind="text", clip_norm=1.0, label_smoothing=0.0, lora_rank=0, **optimizer):
        network = randomize(build_classifier(tiny, kind, 3), seed=4)
        if lora_rank:
            network.enable_lora(lora_rank)
        config = fine_tuning.get_config("", kind).optimizer
        config.update(optimizer)
        tuner = FineTuner(network, clip_norm, label_smoothing)
        tuner.compile(build_optimizer(config, STEPS, network))
        return tuner

    return make


@pytest.fixture
def batches(make_batch):
    """A few batches with labels."""
    made = []
    for seed in range(3):
        batch = make_batch(seed)
        batch["labels"] = batch["image_labels"]
        made.append(batch)
    return made


def values(tuner):
    return [np.asarray(v.value, np.float64) for v in tuner.network.trainable_variables]


def run_step(tuner, batch):
    return tuner.train_step({name: tf.constant(value) for name, value in batch.items()})


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def mean_loss(batch, logits):
    return -np.mean(log_softmax(logits)[np.arange(len(batch["labels"])), batch["labels"]])


def gradients_of(tuner, batch):
    """The gradient of the plain mean of cross-entropies, by Keras' own loss."""
    variables = [v.value for v in tuner.network.trainable_variables]
    with tf.GradientTape() as tape:
        logits = tuner.network(batch, training=True)
        loss = keras.losses.sparse_categorical_crossentropy(
            batch["labels"], logits, from_logits=True
        )
        loss = tf.reduce_mean(loss)
    gradients = tape.gradient(loss, variables)
    return [np.asarray(tf.convert_to_tensor(g), np.float64) for g in gradients]


@pytest.mark.parametrize("clip_norm", [0.1, 100.0])
@pytest.mark.parametrize("kind", ["images", "text"])
def test_momentum_cosine_and_global_clip(make_tuner, batches, kind, clip_norm):
    """The vision recipe: `m = 0.9 m - rate g`, `w = w + m`, on either modality."""
    tuner = make_tuner(kind, clip_norm, name="sgd", schedule="cosine", learning_rate=0.3, warmup=0)
    tuner.optimizer.weight_decay = None
    momenta = [np.zeros_like(value) for value in values(tuner)]
    for step, batch in enumerate(batches):
        before = values(tuner)
        logits = np.asarray(tuner.network(batch))
        gradients = gradients_of(tuner, batch)
        logs = run_step(tuner, batch)
        norm = math.sqrt(sum((g**2).sum() for g in gradients))
        assert float(logs["gradient_norm"]) == pytest.approx(norm, rel=1e-4)
        assert (norm > clip_norm) == (clip_norm == 0.1)
        if step == 0:
            assert float(logs["loss"]) == pytest.approx(mean_loss(batch, logits), rel=1e-5)
            right = np.mean(logits.argmax(-1) == batch["labels"])
            assert float(logs["accuracy"]) == pytest.approx(right)
        rate = 0.3 * (1 + math.cos(math.pi * step / STEPS)) / 2
        scale = min(1.0, clip_norm / norm)
        momenta = [0.9 * m - rate * scale * g for m, g in zip(momenta, gradients, strict=True)]
        for ours, old, momentum in zip(values(tuner), before, momenta, strict=True):
            np.testing.assert_allclose(ours, old + momentum, atol=2e-6)


def test_smoothed_labels():
    logits = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    labels = np.array([0, 3, 1, 1, 2])
    target = 0.8 * np.eye(4)[labels] + 0.2 / 4
    wanted = -(target * log_softmax(logits)).sum(axis=-1)
    np.testing.assert_allclose(smoothed_cross_entropy(labels, logits, 0.2), wanted, rtol=1e-5)


def test_smoothing_and_mixed_labels_are_in_the_loss(make_tuner, batches):
    batch = {**batches[0], "mix_labels": np.array([2, 1, 0, 2], np.int32)}
    batch["mix_weights"] = np.array([0.5, 0.6, 0.9, 1.0], np.float32)
    tuner = make_tuner("images", label_smoothing=0.1)
    logs_p = log_softmax(tuner.network(batch))
    weights, eye = batch["mix_weights"][:, None], np.eye(3)
    target = weights * eye[batch["labels"]] + (1 - weights) * eye[batch["mix_labels"]]
    target = 0.9 * target + 0.1 / 3
    loss = float(run_step(tuner, batch)["loss"])
    assert loss == pytest.approx(-(target * logs_p).sum(-1).mean(), rel=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_lower_layers_are_trained_less(make_tuner, batches, name):
    """One step of each: every variable moves by its part, weight decay included."""
    options = {"name": name, "learning_rate": 0.01, "warmup": 0, "weight_decay": 0.1}
    moved = []
    for layer_decay in (1.0, 0.5):
        tuner = make_tuner("text", layer_decay=layer_decay, **options)
        before = values(tuner)
        run_step(tuner, batches[0])
        moved.append([new - old for new, old in zip(values(tuner), before, strict=True)])
    paths = [variable.path for variable in tuner.network.trainable_variables]
    depth = {"text_embedding": 0, "block_0": 1, "block_1": 2, "final_norm": 3, "head": 3}
    for path, all_of_it, part in zip(paths, *moved, strict=True):
        scale = 0.5 ** (3 - depth[path.split("/")[0]])
        np.testing.assert_allclose(part, scale * all_of_it, rtol=1e-3, atol=2e-7, err_msg=path)
    assert layer_depths(tuner.network) == [depth[path.split("/")[0]] for path in paths]


def test_the_average_of_weights_takes_their_place(make_tuner, batches):
    tuner = make_tuner("text", ema=0.7, warmup=0, learning_rate=0.01)
    wanted = None
    for batch in batches:
        run_step(tuner, batch)
        now = values(tuner)
        wanted = (
            now
            if wanted is None
            else [0.7 * old + 0.3 * new for old, new in zip(wanted, now, strict=True)]
        )
    callback = WeightAverage(steps=3)
    callback.set_model(tuner)
    tuner.step = 2
    callback.on_epoch_end(0)
    np.testing.assert_array_equal(values(tuner)[0], now[0])
    tuner.step = 3
    callback.on_epoch_end(1)
    for ours, average in zip(values(tuner), wanted, strict=True):
        np.testing.assert_allclose(ours, average, atol=1e-6)


def test_low_rank_updates_leave_the_encoder_alone(make_tuner, batches):
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
    before = np.asarray(tuner.network(batches[0]))
    for batch in batches:
        run_step(tuner, batch)
    for variable in tuner.network.non_trainable_variables:
        if not variable.path.startswith("dropout"):
            np.testing.assert_array_equal(np.asarray(variable.value), frozen[variable.path])
    assert np.abs(np.asarray(tuner.network(batches[0])) - before).max() > 0.01


def test_the_cosine_schedule():
    schedule = WarmupCosineDecay(0.5, 4, 24)
    for step in range(30):
        progress = min(max(step - 4, 0) / 20, 1)
        wanted = 0.5 * (step / 4 if step < 4 else (1 + math.cos(math.pi * progress)) / 2)
        assert float(schedule(step)) == pytest.approx(wanted, abs=1e-7)
    assert WarmupCosineDecay(**schedule.get_config()).get_config() == schedule.get_config()


def test_a_classifier_round_trips(make_tuner, batches, tmp_path):
    network = make_tuner("text").network
    network.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(batches[0]), network(batches[0]))


def test_a_classifier_has_one_modality(network):
    from keras_vitbert.model.classifier import Classifier

    with pytest.raises(ValueError, match="takes images and text"):
        Classifier(network.backbone, 3)
