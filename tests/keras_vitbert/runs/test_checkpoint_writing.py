"""Checkpoints beside training, of a small stand-in for a trainer."""

import threading
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.runs import checkpoints
from keras_vitbert.runs.callbacks import Checkpoints
from keras_vitbert.training.anomaly_guard import AnomalyGuard
from pipelines.command_line import Diverged
from pipelines.files import write_atomically


def keeper(folder, is_chief=True):
    """The callback, which keeps two checkpoints in a folder."""
    workers = types.SimpleNamespace(is_chief=is_chief, wait=lambda: None)
    config = types.SimpleNamespace(checkpoints_to_keep=2)
    folder = types.SimpleNamespace(checkpoints=str(folder))
    return Checkpoints(types.SimpleNamespace(config=config, folder=folder, workers=workers))


class Trainer:
    """What checkpoints look at; a step adds 1 to all, in place, as a compiled step does."""

    distribute_strategy = tf.distribute.get_strategy()

    def __init__(self):
        self.network = keras.Sequential(
            [keras.Input((64,)), keras.layers.Dense(64, name="dense")], name="net"
        )
        self.optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        self.optimizer.build(self.network.trainable_variables)
        self.anomaly_guard = AnomalyGuard(name="step_check")
        self.step = 0
        self.mean = keras.metrics.Mean("loss")
        variables = [*self.network.variables, *self.optimizer.variables, *self.mean.variables]
        self.values = [variable.value for variable in variables if variable.dtype == "float32"]
        self._add = tf.function(
            lambda: [value.assign_add(tf.ones_like(value)) for value in self.values]
        )

    @property
    def state_variables(self):
        return {
            "network": self.network.variables,
            "metrics": self.mean.variables,
            "step_check": [self.anomaly_guard.in_a_row, self.anomaly_guard.restores],
        }

    def train(self):
        self._add()
        self.optimizer.iterations.assign_add(1)
        self.step += 1

    def copies(self):
        return [value.numpy().copy() for value in self.values]


@pytest.fixture
def gate(monkeypatch):
    """While it is closed, no checkpoint is finished."""
    gate = threading.Event()

    def write(path, text):
        assert gate.wait(60)
        write_atomically(path, text)

    monkeypatch.setattr(checkpoints, "write_atomically", write)
    yield gate
    gate.set()


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path, gate):
    trainer = Trainer()
    with keeper(tmp_path) as writer:
        for _ in range(3):
            trainer.train()
        expected = trainer.copies()
        writer.save(trainer)
        for _ in range(5):
            trainer.train()
            writer.check()
        assert checkpoints.latest(str(tmp_path)) == (None, 0)  # the pointer comes last
        with keeper(tmp_path, is_chief=False) as other:  # writes nothing
            other.save(trainer)
            other.wait()
        gate.set()
        writer.wait()
        path, step = checkpoints.latest(str(tmp_path))
        assert step == 3 and trainer.step == 8
    fresh = Trainer()
    checkpoints.restore(path, fresh)
    for value, wanted, later in zip(fresh.values, expected, trainer.values, strict=True):
        np.testing.assert_array_equal(value, wanted)
        np.testing.assert_allclose(later, wanted + 5, rtol=1e-6)


@pytest.mark.parametrize("how", ["save", "end"])
def test_a_failure_is_told_at_the_next_chance(tmp_path, monkeypatch, how):
    def full(path, text):
        raise OSError(28, "No space left on device")

    trainer = Trainer()
    monkeypatch.setattr(checkpoints, "write_atomically", full)
    with pytest.raises(OSError, match="No space left"), keeper(tmp_path) as writer:
        writer.save(trainer)
        if how == "save":
            writer.save(trainer)
            pytest.fail("no error")
    assert checkpoints.latest(str(tmp_path)) == (None, 0)


def test_another_error_is_not_hidden_and_the_checkpoint_is_awaited(tmp_path, gate):
    trainer = Trainer()
    threading.Timer(0.3, gate.set).start()
    with pytest.raises(Diverged), keeper(tmp_path) as writer:
        writer.save(trainer)
        raise Diverged("a bad step")
    assert checkpoints.latest(str(tmp_path)) == (str(tmp_path / "step-00000000"), 0)


def test_unfinished_files_of_a_killed_run_go_with_the_next_checkpoint(tmp_path):
    """TensorFlow's, and those of `write_atomically`; what a user has put there stays."""
    folder = tmp_path / "step-00000000"
    folder.mkdir()
    for name in ("state.data-00000-of-00001.tempstate12345", "step.json.tmp-0a1b", "tmp-notes.txt"):
        (folder / name).write_text("unfinished")
    (tmp_path / "LAST.tmp-0a1b").write_text("unfinished")
    checkpoints.write(str(tmp_path), checkpoints.snapshot(Trainer()), keep=1)
    assert {path.name for path in tmp_path.iterdir()} == {"LAST", "step-00000000"}
    wanted = {"state.data-00000-of-00001", "state.index", "step.json", "tmp-notes.txt"}
    assert {path.name for path in folder.iterdir()} == wanted
