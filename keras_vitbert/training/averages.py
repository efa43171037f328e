"""The moving average of the weights, which is evaluated and kept in their place."""

import contextlib
from typing import Any

import keras


class WeightAverages(keras.callbacks.Callback):
    """Validates with the averages of an optimiser's `use_ema`, and keeps them after the last step.

    Without `use_ema` it does nothing. `steps` are those of the whole training.
    """

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps

    def on_test_begin(self, logs=None):
        _swap(self.model)

    def on_test_end(self, logs=None):
        _swap(self.model)

    def on_epoch_end(self, epoch, logs=None):
        trainer: Any = self.model
        if trainer.step == self.steps:
            for variable, average in _pairs(trainer):
                variable.assign(average.value)


@contextlib.contextmanager
def averaged(trainer: Any):
    """A scope in which a compiled trainer's network has the averages of its weights, if any."""
    _swap(trainer)
    try:
        yield
    finally:
        _swap(trainer)


def _pairs(trainer):
    """The trained variables, each with its average."""
    optimizer = trainer.optimizer
    if not optimizer.use_ema:
        return []
    averages = optimizer._model_variables_moving_average
    return list(zip(trainer.network.trainable_variables, averages, strict=True))


def _swap(trainer):
    for variable, average in _pairs(trainer):
        kept = keras.ops.copy(variable.value)
        variable.assign(average.value)
        average.assign(kept)
