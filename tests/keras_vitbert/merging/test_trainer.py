"""`TwoTaskTrainer`: two heads on one trunk, trained on scikit-learn's digits."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from keras_vitbert.configs import merges
from keras_vitbert.merging import (
    GradientMask,
    GradVac,
    MaskSchedule,
    Merge,
    Nash,
    PCGrad,
    Sum,
    get_merge,
)
from keras_vitbert.merging.trainer import TwoTaskTrainer
from tests.forked import Forked
from tests.keras_vitbert.merging import replicas_script

LOSSES = {
    "digit": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "parity": keras.losses.BinaryCrossentropy(from_logits=True),
}
RATE = 0.5


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    odd = (labels % 2)[:, None].astype(np.float32)
    return (images / 16).astype(np.float32), {"digit": labels, "parity": odd}


def named(name):
    return get_merge(merges.Merge(name=name))


def make_network(**of_layers):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((64,))
    hidden = keras.layers.Dense(32, activation="relu", name="block_0", **of_layers)(inputs)
    hidden = keras.layers.Dense(32, activation="relu", name="block_1")(hidden)
    heads = {"digit": keras.layers.Dense(10, name="digit", **of_layers)(hidden)}
    heads["parity"] = keras.layers.Dense(1, name="parity")(hidden)
    return keras.Model(inputs, heads)


def make_trainer(merge, optimizer="adam", schedule=None, **of_layers):
    trainer = TwoTaskTrainer(make_network(**of_layers), LOSSES, merge, schedule)
    trainer.compile(optimizer=optimizer)
    return trainer


def test_a_step_of_pcgrad(digits):
    images, targets = digits[0][:64], {name: t[:64] for name, t in digits[1].items()}
    network = make_network()
    variables = network.trainable_variables
    found = []
    for name, loss in LOSSES.items():
        with tf.GradientTape() as tape:
            value = loss(targets[name], network(images)[name])
        found.append(tape.gradient(value, [v.value for v in variables]))
    before = [v.numpy().astype(np.float64) for v in variables]
    first, second = (
        [None if g is None else np.asarray(g, np.float64) for g in row] for row in found
    )
    shared = [
        n
        for n, (a, b) in enumerate(zip(first, second, strict=True))
        if not (a is None or b is None)
    ]
    assert [variables[n].path.split("/")[0] for n in shared] == ["block_0"] * 2 + ["block_1"] * 2
    t, i = (np.concatenate([row[n].ravel() for n in shared]) for row in (first, second))
    dot = t @ i
    merged = t + i if dot >= 0 else t - dot / (i @ i) * i + i - dot / (t @ t) * t
    expected, start = [], 0
    for n, value in enumerate(before):
        if n in shared:
            gradient = merged[start : start + value.size].reshape(value.shape)
            start += value.size
        else:
            gradient = second[n] if first[n] is None else first[n]
        expected.append(value - RATE * gradient)

    trainer = make_trainer(Merge(PCGrad()), keras.optimizers.SGD(RATE))
    trainer.fit(images, targets, batch_size=64, epochs=1, verbose=0)
    for variable, value in zip(trainer.network.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, rtol=1e-5, atol=1e-6)


def test_sum_is_the_fit_of_keras(digits):
    """With weights of examples, metrics, and losses that belong to no task."""
    images, targets = digits[0][:100], {name: t[:100] for name, t in digits[1].items()}
    weights = dict(zip(LOSSES, np.random.default_rng(0).uniform(0, 3, (2, 100)), strict=True))
    options = {"kernel_regularizer": "l2", "activity_regularizer": keras.regularizers.L2(0.01)}
    shares = {"digit": 0.3, "parity": 0.7}
    metrics = {"digit": ["accuracy"], "parity": ["accuracy", "mae"]}
    ours = TwoTaskTrainer(make_network(**options), LOSSES, Merge(Sum(shares["parity"])))
    ours.compile(keras.optimizers.SGD(RATE), metrics=metrics, weighted_metrics=metrics)
    theirs = make_network(**options)
    theirs.compile(
        keras.optimizers.SGD(RATE), LOSSES, shares, metrics=metrics, weighted_metrics=metrics
    )
    logs = []
    for model in (ours, theirs):
        others = digits[0][100:150], {name: t[100:150] for name, t in digits[1].items()}
        arguments = {"sample_weight": weights, "batch_size": 32, "verbose": 0}
        fitted = model.fit(
            images, targets, epochs=2, shuffle=False, validation_data=others, **arguments
        )
        tested = model.evaluate(images, targets, return_dict=True, **arguments)
        logs.append({**fitted.history, **{f"test_{name}": value for name, value in tested.items()}})
    assert logs[0].keys() == logs[1].keys() and len(logs[0]) == 3 * (3 + 6)
    # Keras counts a smaller last batch as a whole one in the means of single losses.
    for name in (name for name in logs[0] if not name.endswith(("digit_loss", "parity_loss"))):
        values = logs[0][name]
        np.testing.assert_allclose(values, logs[1][name], rtol=1e-5, err_msg=name)
    for mine, other in zip(ours.network.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-4, atol=1e-6)


@pytest.fixture
def half_precision():
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


def test_losses_are_scaled_in_half_precision(digits, half_precision):
    """Heads move as with Keras; the trunk by the length of `Nash`, however the loss is scaled."""
    images, targets = digits[0][:64], {name: t[:64] for name, t in digits[1].items()}
    ours = make_trainer(Merge(Nash()), keras.optimizers.SGD(RATE))
    assert isinstance(ours.optimizer, keras.optimizers.LossScaleOptimizer)
    theirs = make_network()
    theirs.compile(keras.optimizers.SGD(RATE), loss=LOSSES)
    before = {v.path: v.numpy() for v in theirs.variables}
    for model in (ours, theirs):
        model.fit(images, targets, batch_size=64, epochs=1, verbose=0)
    moved, expected = (
        {v.path: v.numpy() - before[v.path] for v in model.trainable_variables}
        for model in (ours.network, theirs)
    )
    trunk = [moved.pop(path).ravel() for path in before if path.startswith("block")]
    assert np.linalg.norm(np.concatenate(trunk)) == pytest.approx(RATE * 2**0.5, rel=0.01)
    for path, value in moved.items():
        atol = 0.01 * np.abs(expected[path]).max()
        np.testing.assert_allclose(value, expected[path], rtol=0, atol=atol)


def test_a_step_that_overflows_changes_nothing(digits, half_precision):
    images, targets = digits[0][:64], {name: t[:64] for name, t in digits[1].items()}
    optimizer = keras.optimizers.SGD(RATE)
    optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0**40)
    trainer = make_trainer(Merge(GradVac(), GradientMask()), optimizer)
    variables = [*trainer.network.variables, *trainer.merge.variables]
    before = [v.numpy() for v in variables]
    trainer.request_gradient_stats(100)
    trainer.fit(images, targets, batch_size=64, epochs=1, verbose=0)
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert trainer.step == 0 and optimizer.dynamic_scale.numpy() == 2.0**39


def test_masks_by_their_schedule(digits):
    """That of the paper unless another is given; a second `fit` goes on from the first."""
    trainer = make_trainer(named("mask"))
    images, targets = digits
    options = {"batch_size": 128, "verbose": 0}
    trainer.fit(images, targets, **options)
    mask = trainer.merge.mask
    assert trainer.step == 15 and sum(mask.sizes) == 64 * 32 + 32 + 32 * 32 + 32
    assert sum(mask.cleared) == sum(mask.sizes) // 2
    before = [m.numpy() for m in mask.masks]
    trainer.fit(images, targets, epochs=2, initial_epoch=1, **options)
    assert trainer.step == 30
    for variable, value in zip(mask.masks, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)

    schedule = MaskSchedule(interval=5, mask_ratio=0.4, mask_ratio_per_update=0.2)
    trainer = make_trainer(named("mask"), schedule=schedule)
    trainer.fit(images, targets, **options)
    assert sum(trainer.merge.mask.cleared) == round(0.4 * sum(mask.sizes))


def test_masks_without_a_number_of_steps_are_refused(digits):
    batch = digits[0][:32], {name: t[:32] for name, t in digits[1].items()}
    batches = tf.data.Dataset.from_tensors(batch).repeat()
    trainer = make_trainer(named("mask"))
    before = [v.numpy() for v in trainer.network.weights]
    with pytest.raises(ValueError, match="steps_per_epoch"):
        trainer.fit(batches, verbose=0)
    with pytest.raises(ValueError, match="train_on_batch"):
        trainer.train_on_batch(*batch)
    with pytest.raises(ValueError, match="MaskSchedule"):
        trainer.fit(*batch, callbacks=MaskSchedule(3), verbose=0)
    for variable, value in zip(trainer.network.weights, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    trainer.fit(batches, steps_per_epoch=7, verbose=0)
    assert trainer.step == 7


def test_an_interrupted_fit_goes_on(digits, tmp_path):
    """With masks half complete, state of the merge and moments of the optimiser."""
    images, targets = digits[0][:192], {name: t[:192] for name, t in digits[1].items()}

    def fit(*callbacks):
        trainer = make_trainer(named("mask+gradvac"), schedule=MaskSchedule(2))
        trainer.fit(images, targets, 64, epochs=4, callbacks=[*callbacks], shuffle=False, verbose=0)
        variables = [*trainer.network.weights, *trainer.merge.variables]
        return trainer.merge.mask, [v.numpy() for v in variables]

    def interrupt(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    mask, whole = fit()
    assert 2 * sum(mask.cleared) == sum(mask.sizes)
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        fit(backup, keras.callbacks.LambdaCallback(on_epoch_begin=interrupt))
    resumed = fit(keras.callbacks.BackupAndRestore(tmp_path / "backup"))[1]
    for value, expected in zip(resumed, whole, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_two_replicas_are_one(tmp_path):
    """With state, masks, a penalty, metrics, and a clip."""
    path, name = tmp_path / "found.npz", "mask+gradvac"
    status, errors = Forked(replicas_script.main, str(path), name).end()
    assert status == 0, errors[-3000:]
    found = np.load(path)
    for what in ("logs", "weights", "state"):
        [one], many = found[f"{name} 1 {what}"], found[f"{name} 2 {what}"]
        assert len(many) == (1 if what == "logs" else 2)
        for values in many:
            np.testing.assert_allclose(values, one, rtol=1e-5, atol=1e-6)


def test_what_cannot_work_is_refused():
    merge = named("sum")
    with pytest.raises(ValueError, match="expected 2, got 1"):
        TwoTaskTrainer(make_network(), {"digit": LOSSES["digit"]}, merge)
    with pytest.raises(KeyError, match="odd"):
        TwoTaskTrainer(make_network(), {"odd": None, "parity": LOSSES["parity"]}, merge)
    with pytest.raises(ValueError, match="mask_schedule"):
        TwoTaskTrainer(make_network(), LOSSES, merge, MaskSchedule())
    for wrong in ({"loss": LOSSES}, {"loss_weights": [1, 2]}):
        with pytest.raises(TypeError, match="loss"):
            TwoTaskTrainer(make_network(), LOSSES, merge).compile("adam", **wrong)
    inputs = keras.Input((64,))
    apart = {name: keras.layers.Dense(1)(inputs) for name in LOSSES}
    with pytest.raises(ValueError, match="no variable"):
        TwoTaskTrainer(keras.Model(inputs, apart), LOSSES, merge)


def test_a_loss_may_be_a_function_or_unreduced(digits):
    """Weights of examples count as with Keras' own loss."""
    batch = digits[0][:50], {name: t[:50] for name, t in digits[1].items()}
    unreduced = keras.losses.MeanSquaredError(reduction=None)
    found = []
    for parity in (keras.losses.mean_squared_error, unreduced, keras.losses.MeanSquaredError()):
        trainer = TwoTaskTrainer(make_network(), {**LOSSES, "parity": parity}, Merge(Sum()))
        trainer.compile()
        weights = np.linspace(0, 2, 50)
        found.append(trainer.evaluate(*batch, sample_weight=weights, verbose=0, return_dict=True))
    assert found[0] == pytest.approx(found[2], rel=1e-6)
    assert found[1] == pytest.approx(found[2], rel=1e-6)
