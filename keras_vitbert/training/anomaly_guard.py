"""Decides, before a step changes anything, whether it may.

A bad step changes no weight, no moment, no mask and no metric: its factors in the update are 0, so
nothing has to be copied or undone. What is known about a step before its update:

- the loss and the norm of the gradient, both summed over the replicas: if one is not finite, the
  step is bad;
- the most by which the optimiser can move a weight, from the learning rate and the size of the
  clipped gradient, see `keras_vitbert.training.optimizers`: a bound instead of the update itself,
  which would have to be kept or computed twice. With this bound, the new weights are finite, too;
- how the loss compares with the best running mean so far: a loss above `LOSS_FACTOR` times that
  mean, or times `LEAST_LOSS` if the mean is smaller, has exploded.
"""

import dataclasses
import math
from typing import Any

import keras
import numpy as np

from keras_vitbert.model.tensors import Tensor, ops

STEP_ROW = "step_row"  # in the logs of a step
LOSS_FACTOR = 10.0
LEAST_LOSS = 1.0  # nats: near a loss of 0 a single wrong label is no explosion
LARGEST_UPDATE = 100.0  # of a single weight; weights of a trained model are mostly below 1
WINDOW = 100  # steps of the running mean


class AnomalyGuard(keras.layers.Layer):
    """Judges steps, and keeps what it judges them by.

    Every replica computes the same values and keeps its own copy, as with masks. They are part of a
    checkpoint, so that a resumed run judges as an unbroken one does.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)

        def weight(name: str, dtype: str, initializer: Any = "zeros") -> keras.Variable:
            return self.add_weight(
                name=name, shape=(), dtype=dtype, initializer=initializer, trainable=False
            )

        self.bad_steps = weight("bad_steps", "int32")  # were not applied
        self.restores = weight("restores", "int32")  # of older checkpoints
        self.in_a_row = weight("in_a_row", "int32")  # good steps after the last bad one
        self.good_steps = weight("good_steps", "int32")
        # The running mean of good steps' losses; the most by which the last good step may have
        # moved a weight; the minimum of the mean.
        self.loss = weight("loss", "float32")
        self.update = weight("update", "float32")
        self.best = weight("best", "float32", keras.initializers.Constant(math.inf))

    def judge(
        self, loss: Tensor, gradient_norm: Tensor, largest_update: Tensor, carried: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Whether a step is good, and the most by which it moves a weight; inside a replica.

        Loss and norm are over all replicas. The bound on the update is that of the gradient, and
        the fraction `carried` of the last step's.
        """
        update = largest_update + carried * self.update.value
        best, mean = (ops.convert_to_tensor(v.value) for v in (self.best, self.loss))
        good = (
            ops.isfinite(loss)
            & ops.isfinite(gradient_norm)
            & (update <= LARGEST_UPDATE)
            & (loss <= LOSS_FACTOR * ops.maximum(best, LEAST_LOSS))
        )
        one = ops.cast(good, "int32")
        count = self.good_steps.value + one
        steps = ops.cast(ops.clip(count, 1, WINDOW), "float32")
        mean = mean + ops.where(good, loss - mean, 0.0) / steps
        self.best.assign(ops.where(good, ops.minimum(best, mean), best))
        self.loss.assign(mean)
        self.good_steps.assign(count)
        self.bad_steps.assign(self.bad_steps.value + 1 - one)
        self.in_a_row.assign((self.in_a_row.value + 1) * one)
        self.update.assign(ops.where(good, update, self.update.value))
        return good, update

    def is_usual(self, loss: float) -> bool:
        """Whether a loss, such as that of a validation, is finite and has not exploded."""
        return bool(loss <= LOSS_FACTOR * max(self.best.numpy(), LEAST_LOSS) < math.inf)


def step_row(good: Tensor, loss: Tensor, largest_update: Tensor, l2_losses: Tensor) -> Tensor:
    """A step's report for `bad_steps`, float32: three numbers, then each gradient's L2 loss."""
    first = ops.stack([ops.cast(good, "float32"), loss, largest_update])
    return ops.concatenate([first, l2_losses])


@dataclasses.dataclass(frozen=True)
class BadStep:
    """A step that was not applied."""

    step: int  # how many steps came before it
    loss: float
    gradient_norm: float
    largest_update: float
    variables: list[int]  # the indices of those whose gradient is not finite

    @property
    def reason(self) -> str:
        """What is wrong, in a few words."""
        for name, value in (("loss", self.loss), ("gradient norm", self.gradient_norm)):
            if not math.isfinite(value):
                return f"its {name} is {value}"
        if not self.largest_update <= LARGEST_UPDATE:
            return f"it could move a weight by {self.largest_update:.3g}"
        return f"its loss is {self.loss:.3g}, over {LOSS_FACTOR:g} times the best so far"


def bad_steps(rows: np.ndarray, first: int) -> list[BadStep]:
    """The bad steps of an execution, by rows of `step_row` and the number of the first step."""
    bad = []
    for number in np.flatnonzero(rows[:, 0] == 0).tolist():
        _, loss, largest_update, *halves = rows[number].tolist()
        # In float32, as in the step: large gradients are finite, but their squares are not.
        norm = float(np.sqrt(np.float32(2) * np.float32(sum(halves))))
        wrong = [i for i, half in enumerate(halves) if not math.isfinite(half)]
        bad.append(BadStep(first + number, loss, norm, largest_update, wrong))
    return bad
