"""The calls of `fit` that lead from a checkpoint to the end."""

import types

import pytest
import tensorflow as tf

from keras_vitbert.configs.devices import Devices
from keras_vitbert.runs import loop
from keras_vitbert.runs.machine import Machine, Workers
from keras_vitbert.runs.run import Run
from keras_vitbert.runs.run_folder import RunFolder


class Trainer:
    """Notes what `fit` is asked for, and the epochs that end with a validation."""

    def __init__(self, executed=1):
        self.step, self.steps_per_execution, self.stop_training = 0, executed, False
        self.ends, self.validated, self.begins = [], [], []

    def fit(self, training, initial_epoch, epochs, steps_per_epoch, **options):
        self.begins.append((self.step, training))
        for epoch in range(initial_epoch, epochs):
            self.step += steps_per_epoch
            self.ends.append((epoch, self.step))
            if epoch + 1 in options.get("validation_freq", ()):
                self.validated.append(self.step)


class Stream:
    images_per_step = tokens_per_step = validation_batches = 1

    def training(self, step, context):
        return f"from {step}"

    def validation(self, context):
        return "validation"


@pytest.fixture
def train(tmp_path, monkeypatch):
    """`train(start, steps, steps_per_epoch, validation_interval, executed) -> Trainer`."""

    def train(start, steps, steps_per_epoch, validation_interval=None, executed=1):
        def resume(keeper, trainer):
            trainer.step = start
            return start

        monkeypatch.setattr(loop.Checkpoints, "resume", resume)
        strategy = tf.distribute.get_strategy()
        config = types.SimpleNamespace(
            steps=steps,
            steps_per_epoch=steps_per_epoch,
            validation_interval=validation_interval or steps_per_epoch,
            checkpoint_interval=1,
            checkpoints_to_keep=1,
            dtype="float32",
        )
        # A strategy would ask for a dataset; what the function gives is enough here.
        plain = types.SimpleNamespace(
            scope=strategy.scope,
            num_replicas_in_sync=1,
            distribute_datasets_from_function=lambda make: make(None),
        )
        machine = Machine(plain, Workers(strategy), Devices())
        run = Run(config=config, folder=RunFolder(str(tmp_path)), machine=machine, data=None)
        trainer = Trainer(executed)
        assert loop.fit(run, trainer, Stream()) == start
        return trainer

    return train


@pytest.mark.parametrize("steps_per_epoch", [1, 3, 25])
@pytest.mark.parametrize("start", [0, 1, 7, 10])
def test_every_step_is_done_once_in_the_epoch_that_it_belongs_to(train, start, steps_per_epoch):
    trainer = train(start, 10, steps_per_epoch)
    assert trainer.step == 10
    ends = [step for step in range(1, 11) if step % steps_per_epoch == 0 or step == 10]
    left = [step for step in ends if step > start]
    assert trainer.ends == [((step - 1) // steps_per_epoch, step) for step in left]
    # The data go on where each call begins.
    assert all(training == f"from {step}" for step, training in trainer.begins)


@pytest.mark.parametrize("start", [0, 5, 8])
@pytest.mark.parametrize(("interval", "expected"), [(4, [4, 8, 10]), (8, [8, 10]), (12, [10])])
def test_validation_comes_at_its_interval_and_at_the_end(train, start, interval, expected):
    trainer = train(start, 10, 4, interval)
    assert trainer.validated == [step for step in expected if step > start]


def test_a_start_within_an_execution_is_refused(train):
    with pytest.raises(ValueError, match="^steps_per_execution=4: .* 6"):
        train(6, 12, 4, executed=4)
