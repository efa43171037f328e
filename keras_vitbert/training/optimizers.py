"""Optimisers for gradients that are summed over the replicas already, rates and averages.

Keras' optimisers clip each replica's gradient before summing (keras#19308), which changes the
update. Our steps sum and clip themselves, so their optimiser must not sum again. A bad step changes
nothing.
"""

import contextlib
import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_vitbert.configs.optimizers import OPTIONS, Optimizer, PretrainingOptimizer
from keras_vitbert.model.tensors import Tensor, ops
from keras_vitbert.training.backends import backend

# The class that the mixins are combined with, for type checkers.
_Optimizer = keras.optimizers.Optimizer if TYPE_CHECKING else object

# --- learning rates ------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="keras_vitbert")
class WarmupPolynomialDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from 0 to the peak, then `peak * (1 - progress)**power` down to 0.

    The rate is `peak` at step `warmup_steps`, and 0 from step `steps` on.

    Raises:
        ValueError: `steps` is not larger than `warmup_steps`.
    """

    def __init__(self, peak: float, warmup_steps: int, steps: int, power: float = 1.0):
        if not 0 <= warmup_steps < steps:
            raise ValueError(f"warmup_steps {warmup_steps} must be in [0, steps), steps is {steps}")
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.steps = steps
        self.power = power

    def __call__(self, step: Tensor) -> Tensor:
        step = ops.cast(step, "float32")
        warmup = step / max(self.warmup_steps, 1)
        progress = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        decay = self.decay(ops.clip(progress, 0.0, 1.0))
        return self.peak * ops.where(step < self.warmup_steps, warmup, decay)

    def decay(self, progress: Tensor) -> Tensor:
        """The fraction of the peak that remains after a fraction of the time after the warm-up."""
        return ops.power(1.0 - progress, self.power)

    def get_config(self) -> dict[str, float]:
        names = ("peak", "warmup_steps", "steps", "power")
        return {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable(package="keras_vitbert")
class WarmupCosineDecay(WarmupPolynomialDecay):
    """Linear warm-up from 0 to the peak, then `peak * (1 + cos(pi * progress)) / 2` down to 0.

    The arguments are those of `WarmupPolynomialDecay`; `power` has no effect.
    """

    def decay(self, progress: Tensor) -> Tensor:
        return (1 + ops.cos(math.pi * progress)) / 2


# --- what all optimisers share --------------------------------------------------------------------


class SummedGradients(_Optimizer):
    """Applies gradients that are already equal on all replicas, or leaves everything as it is.

    Weight decay applies to the variables of `decays`. Variables may have their own learning rates,
    see `scale_rates`.
    """

    _rate_scales: list[float] | None = None

    def scale_rates(self, scales: Sequence[float]) -> None:
        """Scales the learning rate, and with it weight decay, of each variable."""
        self._rate_scales = list(scales)

    def apply(
        self,
        grads: Sequence[Tensor],
        trainable_variables: Sequence[keras.Variable] | None = None,
        good: Tensor = True,
        in_turn: bool = False,
    ) -> None:
        """Updates variables, by default those of `build`, and counts the step.

        Unless the step is `good`, weights and moments keep their values; the averages of `use_ema`
        follow in every step. Gradients are finite even in a bad step, or None. With `in_turn`,
        variables are updated one after another: otherwise a GPU would begin all updates before it
        ends one, and keep several tensors of the size of all weights.
        """
        variables = trainable_variables or self._trainable_variables
        if not self.built:
            self.build(variables)
        grads, variables = self._filter_empty_gradients(grads, variables)
        good = ops.convert_to_tensor(good)
        numbers = [ops.where(good, self.learning_rate, 0.0), ops.stack(self.factors(good))]
        backend.update_each(self._update, variables, grads, numbers, in_turn)
        if self.use_ema:
            self._update_model_variables_moving_average(self._trainable_variables)
        self._iterations.assign_add(1)

    @abstractmethod
    def factors(self, good: Tensor) -> list[Tensor]:
        """The factors of an update that `update_step` needs; unless `good`, nothing changes."""

    @abstractmethod
    def largest_update(self, gradient_norm: Tensor) -> tuple[Tensor, float]:
        """The most by which the next gradient, of a norm, may move a weight, apart from decay.

        Also returns the fraction of the last step's bound that is added to it.
        """

    def _rate_of(self, variable: keras.Variable, rate: Tensor) -> Tensor:
        if self._rate_scales is None:
            return rate
        return rate * self._rate_scales[self._get_variable_index(variable)]

    def _largest_rate(self) -> Tensor:
        rate: Tensor = self.learning_rate
        return rate * max(self._rate_scales or [1.0])

    def finalize_variable_values(self, var_list: Sequence[keras.Variable]) -> None:
        """Does nothing: a `fit` may train only some steps; averages are used after the last one."""

    def _update(self, variable: Any, gradient: Tensor, numbers: Sequence[Tensor]) -> None:
        rate, factors = numbers
        # Shrinks a variable of `decays`; Keras would compute the rate again for each.
        index = self._get_variable_index(variable)
        if self.weight_decay and decays(self._trainable_variables[index]):
            decay = self._rate_of(variable, self.weight_decay)
            variable.assign_sub(variable * ops.cast(decay * rate, variable.dtype))
        self.update_step(gradient, variable, factors)


class KerasUpdate(SummedGradients):
    """The update that Keras computes; in a bad step, its assignments change nothing."""

    _good: Any = None

    def factors(self, good: Tensor) -> list[Tensor]:
        """The learning rate, and whether the step is good."""
        return [ops.cast(x, "float32") for x in (self.learning_rate, good)]

    def update_step(self, gradient: Tensor, variable: Any, learning_rate: Tensor) -> None:
        """One step of Keras' optimiser of that name; `learning_rate` are the `factors`."""
        rate, good = ops.unstack(learning_rate)
        self._good = good > 0
        super().update_step(gradient, variable, self._rate_of(variable, rate))
        self._good = None

    def assign(self, variable: Any, value: Tensor) -> None:
        super().assign(variable, self._if_good(value, ops.convert_to_tensor(variable)))

    def assign_add(self, variable: Any, value: Tensor) -> None:
        super().assign_add(variable, self._if_good(value, 0.0))

    def assign_sub(self, variable: Any, value: Tensor) -> None:
        super().assign_sub(variable, self._if_good(value, 0.0))

    def _if_good(self, value: Tensor, otherwise: Tensor) -> Tensor:
        return ops.where(self._good, ops.convert_to_tensor(value), otherwise)


def decays(variable: keras.Variable) -> bool:
    """Whether weight decay applies to a variable.

    It applies to every `kernel` and to word and segment `embeddings`, but not to biases, norms'
    `gamma` and `beta`, position embeddings and the class token.
    """
    return variable.path.split("/")[-1] in ("kernel", "embeddings")


# --- the optimisers ------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="keras_vitbert")
class AdamW(SummedGradients, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` for summed gradients.

    The bias correction depends only on the step and is computed once per step; Keras computes it
    again for each variable. `amsgrad` is not supported, and `beta_1**2` must be below `beta_2`.
    """

    def __init__(self, *args: Any, amsgrad: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if amsgrad:
            raise ValueError("amsgrad is not supported; use keras.optimizers.AdamW")

    def factors(self, good: Tensor) -> list[Tensor]:
        """The factors of the weights, the first moment and the second moment."""
        factors = _corrected(self, self.learning_rate), 1 - self.beta_1, 1 - self.beta_2
        return [ops.where(good, x, 0.0) for x in factors]

    def largest_update(self, gradient_norm: Tensor) -> tuple[Tensor, float]:
        """The bound on an update, see `SummedGradients`.

        A moment is a weighted sum of gradients, and its ratio to the root of the second moment is
        largest where each gradient is `(beta_1 / beta_2)**age` times the newest (the inequality of
        Cauchy and Schwarz): `(1 - beta_1) / sqrt((1 - beta_2) (1 - beta_1**2 / beta_2))`. Adam's
        own bound (Kingma and Ba 2015, section 2.1) is for gradients that were 0 before.
        """
        most = _most_of_adam(self.beta_1, self.beta_2)
        return _corrected(self, self._largest_rate()) * most, 0.0

    def update_step(self, gradient: Tensor, variable: Any, learning_rate: Tensor) -> None:
        """One Adam step (Kingma and Ba 2015, section 2); `learning_rate` are the `factors`."""
        rate, first, second = ops.unstack(learning_rate)
        rate = self._rate_of(variable, rate)
        index = self._get_variable_index(variable)
        moments = self._momentums[index], self._velocities[index]
        backend.adam(variable, moments, gradient, rate, first, second, self.epsilon)


@keras.saving.register_keras_serializable(package="keras_vitbert")
class SGD(KerasUpdate, keras.optimizers.SGD):
    """`keras.optimizers.SGD` for summed gradients; its bound is for steps without `nesterov`."""

    def largest_update(self, gradient_norm: Tensor) -> tuple[Tensor, float]:
        return gradient_norm * self._largest_rate(), self.momentum


@keras.saving.register_keras_serializable(package="keras_vitbert")
class Lamb(KerasUpdate, keras.optimizers.Lamb):
    """`keras.optimizers.Lamb` (You et al. 2020, algorithm 2) for summed gradients.

    In the paper, weight decay is part of the step that is scaled to the length of the weights.
    Here, as in Keras, it comes before, and biases and norms also have steps scaled to their own
    length. `beta_1**2` must be below `beta_2`.
    """

    def largest_update(self, gradient_norm: Tensor) -> tuple[Tensor, float]:
        # A variable moves by the rate times its own norm; one that is 0 moves as much as in Adam.
        norms = ops.stack([_norm(variable) for variable in self._trainable_variables])
        of_zeros = _most_of_adam(self.beta_1, self.beta_2) * _corrected(self, 1.0)
        return self._largest_rate() * ops.max(ops.where(norms > 0, norms, of_zeros)), 0.0


@keras.saving.register_keras_serializable(package="keras_vitbert")
class Lion(KerasUpdate, keras.optimizers.Lion):
    """`keras.optimizers.Lion` (Chen et al. 2023, algorithm 2) for summed gradients."""

    def largest_update(self, gradient_norm: Tensor) -> tuple[Tensor, float]:
        return ops.convert_to_tensor(self._largest_rate()), 0.0


@keras.saving.register_keras_serializable(package="keras_vitbert")
class Adafactor(KerasUpdate, keras.optimizers.Adafactor):
    """`keras.optimizers.Adafactor` (Shazeer and Stern 2018, algorithms 4 and 5).

    For summed gradients. Besides the factors, Keras keeps the second moment of each weight, so it
    takes the memory of one moment, where AdamW takes that of two.
    """

    def largest_update(self, gradient_norm: Tensor) -> tuple[Tensor, float]:
        # The root mean square of an update is at most `clip_threshold` (section 6), and a single
        # entry at most that times the square root of the number of entries. The step is relative to
        # the root mean square of the weights.
        lengths = [
            ops.maximum(_norm(v), self.epsilon_2 * math.sqrt(math.prod(v.shape)))
            for v in self._trainable_variables
        ]
        step = ops.cast(ops.add(self.iterations, 1), "float32")
        rate = ops.minimum(self._largest_rate(), 1 / ops.sqrt(step))
        return rate * self.clip_threshold * ops.max(ops.stack(lengths)), 0.0


_CLASSES = {"adamw": AdamW, "lamb": Lamb, "lion": Lion, "adafactor": Adafactor, "sgd": SGD}


def _norm(variable: keras.Variable) -> Tensor:
    return ops.sqrt(ops.sum(ops.square(variable)))


def _corrected(optimizer: Any, rate: Tensor) -> Tensor:
    """A learning rate with the bias correction of both of Adam's moments."""
    step = ops.cast(optimizer.iterations + 1, "float32")
    rate = rate * ops.sqrt(1 - ops.power(optimizer.beta_2, step))
    return rate / (1 - ops.power(optimizer.beta_1, step))


def _most_of_adam(beta_1: float, beta_2: float) -> float:
    """See `AdamW.largest_update`."""
    return (1 - beta_1) / math.sqrt((1 - beta_2) * (1 - beta_1**2 / beta_2))


def build_optimizer(
    config: PretrainingOptimizer, steps: int, variables: Sequence[keras.Variable]
) -> SummedGradients:
    """The optimiser of pre-training for so many steps, with warm-up and polynomial decay."""
    peak, warmup_steps = config.learning_rate, config.warmup_steps
    rate = WarmupPolynomialDecay(peak, warmup_steps, steps, config.decay_power)
    return with_rate(config, rate, variables)


def with_rate(config: Optimizer, rate: Any, variables: Sequence[keras.Variable]) -> SummedGradients:
    """An optimiser by its name in a config, with a rate or its schedule, built; see `decays`."""
    options = {key: getattr(config, key) for key in OPTIONS[config.name]}
    if config.ema:
        options |= {"use_ema": True, "ema_momentum": config.ema}
    cls = _CLASSES[config.name]
    optimizer = cls(rate, weight_decay=config.weight_decay, **options)
    optimizer.build(variables)
    return optimizer


# --- averages of the weights ---------------------------------------------------------------------


class WeightAverages(keras.callbacks.Callback):
    """Validates with the averages of an optimiser's `use_ema`, and keeps them after the last step.

    Without `use_ema` it does nothing. `steps` are those of the whole training.
    """

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps

    def on_test_begin(self, logs: dict | None = None) -> None:
        _swap(self.model)

    def on_test_end(self, logs: dict | None = None) -> None:
        _swap(self.model)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        trainer: Any = self.model
        if trainer.step == self.steps:
            for variable, average in _pairs(trainer):
                variable.assign(average.value)


@contextlib.contextmanager
def averaged(trainer: Any) -> Iterator[None]:
    """A scope in which a compiled trainer's network has the averages of its weights, if any."""
    _swap(trainer)
    try:
        yield
    finally:
        _swap(trainer)


def _pairs(trainer: Any) -> list[tuple[keras.Variable, keras.Variable]]:
    """The trained variables, each with its average."""
    optimizer = trainer.optimizer
    if not optimizer.use_ema:
        return []
    averages = optimizer._model_variables_moving_average
    return list(zip(trainer.network.trainable_variables, averages, strict=True))


def _swap(trainer: Any) -> None:
    for variable, average in _pairs(trainer):
        weight = keras.ops.copy(variable.value)
        variable.assign(average.value)
        average.assign(weight)
