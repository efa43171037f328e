"""When callbacks look, and what TensorBoard shows of values that are set by hand."""

import types

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from keras_vitbert.inspection.activations import co_activation
from keras_vitbert.inspection.callbacks import ActivationMaps, GradientStats
from keras_vitbert.inspection.values import read_values
from keras_vitbert.runs.run_folder import RunFolder

ACTIVATIONS = np.random.default_rng(0).random((21, 2, 3, 8)).astype(np.float32)  # by step


def fake_trainer(step=0, executed=1):
    """What the callbacks ask of a `JointTrainer`."""
    trainer = types.SimpleNamespace(step=step, steps_per_execution=executed, asked=[])
    trainer.request_gradient_stats = lambda: trainer.asked.append(trainer.step)
    return trainer


def train(trainer, callback, steps):
    callback._model = trainer
    callback.on_train_begin()
    while trainer.step < steps:
        callback.on_train_batch_begin(0)
        trainer.step += trainer.steps_per_execution
        callback.on_train_batch_end(0)


@pytest.mark.parametrize(("executed", "begin"), [(1, 5), (2, 0), (4, 8)])
@pytest.mark.parametrize("interval", [3, 100])
def test_callbacks_look_at_multiples_of_the_interval_and_at_the_end(interval, executed, begin):
    """At the start, too, for activations; gradients in the execution that holds the step."""
    looked_at = {*range(interval, 20, interval), 20}
    due = [
        start
        for start in range(begin, 20, executed)
        if looked_at.intersection(range(start + 1, start + executed + 1))
    ]
    folder = RunFolder("absent", writes=False)
    trainer = fake_trainer(begin, executed)
    train(trainer, GradientStats(folder, interval, 20), 20)
    assert trainer.asked == due
    trainer, shown = fake_trainer(begin, executed), []
    maps = ActivationMaps(None, None, folder, interval, 5, 20)
    maps._show = lambda: shown.append(trainer.step)
    train(trainer, maps, 20)
    assert shown == [0] * (begin == 0) + [start + executed for start in due]


def recorded(path, tag):
    """By step the tensor that TensorBoard shows."""
    events = EventAccumulator(str(path / "train")).Reload()
    return {event.step: tf.make_ndarray(event.tensor_proto) for event in events.Tensors(tag)}


def activation_maps(folder, trainer, interval, steps):
    """Maps of `ACTIVATIONS` instead of a model's."""
    maps = ActivationMaps(None, None, folder, interval, 1, steps)
    maps.values = lambda: dict(zip(("image", "text"), ACTIVATIONS[trainer.step], strict=True))
    return maps


def test_tensorboard_shows_the_stored_activations(tmp_path):
    trainer = fake_trainer()
    train(trainer, activation_maps(RunFolder(str(tmp_path)), trainer, 7, 10), 10)
    stored = read_values(str(tmp_path), "activations")
    assert list(stored) == [0, 7, 10]
    for step, arrays in stored.items():
        image, text = ACTIVATIONS[step]
        np.testing.assert_array_equal([arrays["image"], arrays["text"]], [image, text])
        for name, blocks in co_activation(image, text).items():
            shown = recorded(tmp_path, f"co_activation/{name}")[step]
            assert shown == pytest.approx(blocks.mean(), abs=1e-6)
    assert set(recorded(tmp_path, "activations/block_0")) == set(stored)


def test_tensorboard_shows_gradients_at_the_first_step_of_an_execution(tmp_path):
    values = {"norm_ratio": 2.0, "opposite_sign": 0.5, "text_norm": 3.0, "image_norm": 1.5}
    trainer = fake_trainer(executed=2)
    trainer.conflict = types.SimpleNamespace(
        values=lambda: {name: {**values, "cosine": trainer.step / 100} for name in ("b", "all")},
    )
    train(trainer, GradientStats(RunFolder(str(tmp_path)), 4, 10), 10)
    cosines = recorded(tmp_path, "gradient/gradient_cosine")
    assert cosines == {s: pytest.approx((s + 1) / 100) for s in (3, 7, 9)}
