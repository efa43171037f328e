"""`TwoTaskTrainer`: two heads on one trunk, trained on scikit-learn's digits."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from keras_vitbert import merging
from keras_vitbert.configs import merges
from keras_vitbert.merging.trainer import TwoTaskTrainer
from tests.forked import Forked
from tests.keras_vitbert.merging import reference_merges, replicas_script

LOSSES = {
    "digit": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "parity": keras.losses.BinaryCrossentropy(from_logits=True),
}
RATE = 0.5


@pytest.fixture(scope="module")
def first():
    """`first(count, begin=0)`: so many examples."""
    images, labels = load_digits(return_X_y=True)
    odd = (labels % 2)[:, None].astype(np.float32)
    images = (images / 16).astype(np.float32)

    def first(count, begin=0):
        part = slice(begin, begin + count)
        return images[part], {"digit": labels[part], "parity": odd[part]}

    return first


def make_network(**of_layers):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((64,))
    hidden = keras.layers.Dense(32, activation="relu", name="block_0", **of_layers)(inputs)
    heads = {"digit": keras.layers.Dense(10, name="digit", **of_layers)(hidden)}
    heads["parity"] = keras.layers.Dense(1, name="parity")(hidden)
    return keras.Model(inputs, heads)


def make_trainer(merge, optimizer="adam", schedule=None):
    trainer = TwoTaskTrainer(make_network(), LOSSES, merge, schedule)
    trainer.compile(optimizer=optimizer)
    return trainer


def fit_once(model, examples):
    model.fit(*examples, batch_size=len(examples[0]), verbose=0)


def test_a_step_of_pcgrad(first):
    images, targets = first(64)
    network = make_network()
    gradients = []
    for name, loss in LOSSES.items():
        with tf.GradientTape() as tape:
            value = loss(targets[name], network(images)[name])
        found = tape.gradient(value, [v.value for v in network.trainable_variables])
        gradients.append([None if g is None else np.asarray(g, np.float64) for g in found])
    pairs = list(zip(*gradients, strict=True))
    shared = [pair for pair in pairs if pair[0] is not None and pair[1] is not None]
    assert len(shared) == 2
    sides = zip(*shared, strict=True)
    flat = np.array([np.concatenate([g.ravel() for g in side]) for side in sides])
    weights = reference_merges.pcgrad(flat).sum(0)
    trainer = make_trainer(merging.Merge(merging.PCGrad()), keras.optimizers.SGD(RATE))
    fit_once(trainer, (images, targets))
    variables = zip(trainer.network.trainable_variables, network.trainable_variables, strict=True)
    for (after, before), (one, other) in zip(variables, pairs, strict=True):
        if one is None or other is None:
            gradient = other if one is None else one
        else:
            gradient = weights[0] * one + weights[1] * other
        np.testing.assert_allclose(after, before - RATE * gradient, rtol=1e-5, atol=1e-6)


def test_sum_is_the_fit_of_keras(first):
    """With weights of examples, metrics, losses of any kind, and some that belong to no task."""
    images, targets = first(100)
    weights = dict(zip(LOSSES, np.random.default_rng(0).uniform(0, 3, (2, 100)), strict=True))
    options = {"kernel_regularizer": "l2", "activity_regularizer": keras.regularizers.L2(0.01)}
    shares = {"digit": 0.3, "parity": 0.7}
    metrics = {"digit": ["accuracy"], "parity": ["accuracy", "mae"]}
    losses = {
        "digit": keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None),
        "parity": lambda y, x: keras.losses.binary_crossentropy(y, x, from_logits=True),
    }
    merge = merging.Merge(merging.Sum(shares["parity"]))
    ours = TwoTaskTrainer(make_network(**options), losses, merge)
    ours.compile(keras.optimizers.SGD(RATE), metrics=metrics, weighted_metrics=metrics)
    theirs = make_network(**options)
    theirs.compile(
        keras.optimizers.SGD(RATE), LOSSES, shares, metrics=metrics, weighted_metrics=metrics
    )
    logs = []
    for model in (ours, theirs):
        arguments = {"sample_weight": weights, "batch_size": 32, "verbose": 0}
        fitted = model.fit(
            images, targets, epochs=2, shuffle=False, validation_data=first(50, 100), **arguments
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


def test_losses_are_scaled_in_half_precision(first, half_precision):
    """Heads move as with Keras; the trunk by the length of `Nash`, however the loss is scaled."""
    ours = make_trainer(merging.Merge(merging.Nash()), keras.optimizers.SGD(RATE))
    assert isinstance(ours.optimizer, keras.optimizers.LossScaleOptimizer)
    theirs = make_network()
    theirs.compile(keras.optimizers.SGD(RATE), loss=LOSSES)
    before = {v.path: v.numpy() for v in theirs.variables}
    for model in (ours, theirs):
        fit_once(model, first(64))
    moved, expected = (
        {v.path: v.numpy() - before[v.path] for v in model.trainable_variables}
        for model in (ours.network, theirs)
    )
    trunk = [moved.pop(path).ravel() for path in before if path.startswith("block")]
    assert np.linalg.norm(np.concatenate(trunk)) == pytest.approx(RATE * 2**0.5, rel=0.01)
    for path, value in moved.items():
        atol = 0.01 * np.abs(expected[path]).max()
        np.testing.assert_allclose(value, expected[path], rtol=0, atol=atol)


def test_a_step_that_overflows_changes_nothing(first, half_precision):
    optimizer = keras.optimizers.SGD(RATE)
    optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0**40)
    trainer = make_trainer(merging.Merge(merging.GradVac(), merging.GradientMask()), optimizer)
    variables = [*trainer.network.variables, *trainer.merge.variables]
    before = [v.numpy() for v in variables]
    trainer.request_gradient_stats(100)
    fit_once(trainer, first(64))
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert trainer.step == 0 and optimizer.dynamic_scale.numpy() == 2.0**39


def test_masks_need_a_number_of_steps_and_have_the_schedule_of_the_paper(first):
    batch = first(32)
    batches = tf.data.Dataset.from_tensors(batch).repeat(8).filter(lambda x, y: True)
    trainer = make_trainer(merging.get_merge(merges.Merge(name="mask")))
    before = [v.numpy() for v in trainer.network.weights]
    with pytest.raises(ValueError, match="steps_per_epoch"):
        trainer.fit(batches, verbose=0)
    with pytest.raises(ValueError, match="train_on_batch"):
        trainer.train_on_batch(*batch)
    with pytest.raises(ValueError, match="MaskSchedule"):
        trainer.fit(*batch, callbacks=merging.MaskSchedule(3), verbose=0)
    for variable, value in zip(trainer.network.weights, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    trainer.fit(batches, steps_per_epoch=7, verbose=0)
    mask = trainer.merge.mask
    assert trainer.step == 7 and mask.sizes == [64 * 32, 32]
    assert sum(mask.cleared) == sum(mask.sizes) // 2


def test_an_interrupted_fit_goes_on(first, tmp_path):
    """With masks half complete, state of the merge and moments of the optimiser."""

    def fit(*callbacks):
        merge = merging.get_merge(merges.Merge(name="mask+gradvac"))
        trainer = make_trainer(merge, schedule=merging.MaskSchedule(2, 0.4))
        options = {"batch_size": 64, "shuffle": False, "verbose": 0}
        trainer.fit(*first(192), epochs=4, callbacks=[*callbacks], **options)
        variables = [*trainer.network.weights, *trainer.merge.variables]
        return trainer.merge.mask, [v.numpy() for v in variables]

    def interrupt(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    mask, whole = fit()
    assert sum(mask.cleared) == round(0.4 * sum(mask.sizes))
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        fit(backup, keras.callbacks.LambdaCallback(on_epoch_begin=interrupt))
    resumed = fit(keras.callbacks.BackupAndRestore(tmp_path / "backup"))[1]
    for value, expected in zip(resumed, whole, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_two_replicas_are_one(tmp_path):
    """With state, masks, a penalty, metrics, and a clip."""
    path = tmp_path / "found.npz"
    status, errors = Forked(replicas_script.main, str(path)).end()
    assert status == 0, errors[-3000:]
    found = np.load(path)
    for what in ("logs", "weights", "state"):
        [one], many = found[f"1 {what}"], found[f"2 {what}"]
        assert len(many) == (1 if what == "logs" else 2)
        for values in many:
            np.testing.assert_allclose(values, one, rtol=1e-5, atol=1e-6)


def test_what_cannot_work_is_refused():
    for count in (1, 3):
        losses = dict.fromkeys(["digit", "parity", "third"][:count], LOSSES["digit"])
        with pytest.raises(ValueError, match="losses: must be of two"):
            TwoTaskTrainer(make_network(), losses, merging.Merge(merging.Unit()))
    merge = merging.get_merge(merges.Merge(name="sum"))
    with pytest.raises(ValueError, match="mask_schedule"):
        TwoTaskTrainer(make_network(), LOSSES, merge, merging.MaskSchedule())
    inputs = keras.Input((64,))
    apart = {name: keras.layers.Dense(1)(inputs) for name in LOSSES}
    with pytest.raises(ValueError, match="no variable"):
        TwoTaskTrainer(keras.Model(inputs, apart), LOSSES, merge)
