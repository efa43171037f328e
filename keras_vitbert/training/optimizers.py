"""Optimisers for gradients that are summed over the replicas already, and their learning rates."""

import math
from typing import Any

import keras
from keras import ops

from keras_vitbert.configs.optimizers import OPTIONS, Optimizer, PretrainingOptimizer
from keras_vitbert.training.engines import engine
from keras_vitbert.training.summed_gradients import KerasUpdate, SummedGradients


@keras.saving.register_keras_serializable(package="keras_vitbert")
class WarmupPolynomialDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from 0 to the peak, then `peak * (1 - progress)**power` down to 0.

    Args:
        peak: the learning rate at step `warmup_steps`.
        warmup_steps: 0 for none.
        steps: where the rate reaches 0.
        power: 1 for a straight line.

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

    def __call__(self, step):
        step = ops.cast(step, "float32")
        warmup = step / max(self.warmup_steps, 1)
        progress = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        decay = self.decay(ops.clip(progress, 0.0, 1.0))
        return self.peak * ops.where(step < self.warmup_steps, warmup, decay)

    def decay(self, progress):
        """The fraction of the peak that remains after a fraction of the time after the warm-up."""
        return ops.power(1.0 - progress, self.power)

    def get_config(self):
        names = ("peak", "warmup_steps", "steps", "power")
        return {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable(package="keras_vitbert")
class WarmupCosineDecay(WarmupPolynomialDecay):
    """Linear warm-up from 0 to the peak, then `peak * (1 + cos(pi * progress)) / 2` down to 0.

    The arguments are those of `WarmupPolynomialDecay`; `power` has no effect.
    """

    def decay(self, progress):
        return (1 + ops.cos(math.pi * progress)) / 2


@keras.saving.register_keras_serializable(package="keras_vitbert")
class AdamW(SummedGradients, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` for summed gradients.

    The bias correction depends only on the step and is computed once per step; Keras computes it
    again for each variable. `amsgrad` is not supported, and `beta_1**2` must be below `beta_2`.
    """

    def __init__(self, *args, amsgrad=False, **kwargs):
        super().__init__(*args, **kwargs)
        if amsgrad:
            raise ValueError("amsgrad is not supported; use keras.optimizers.AdamW")

    def factors(self, good):
        """The factors of the weights, the first moment and the second moment."""
        factors = _corrected(self, self.learning_rate), 1 - self.beta_1, 1 - self.beta_2
        return [ops.where(good, x, 0.0) for x in factors]

    def largest_update(self, gradient_norm):
        """The most by which the next gradient may move a weight, apart from weight decay.

        A moment is a weighted sum of gradients, and its ratio to the root of the second moment is
        largest where each gradient is `(beta_1 / beta_2)**age` times the newest (the inequality of
        Cauchy and Schwarz): `(1 - beta_1) / sqrt((1 - beta_2) (1 - beta_1**2 / beta_2))`. Adam's
        own bound (Kingma and Ba 2015, section 2.1) is for gradients that were 0 before.
        """
        most = _most_of_adam(self.beta_1, self.beta_2)
        return _corrected(self, self._largest_rate()) * most, 0.0

    def update_step(self, gradient, variable, learning_rate):
        """One Adam step (Kingma and Ba 2015, section 2); `learning_rate` are the `factors`."""
        rate, first, second = ops.unstack(learning_rate)
        rate = self._rate_of(variable, rate)
        index = self._get_variable_index(variable)
        moments = self._momentums[index], self._velocities[index]
        engine.adam(variable, moments, gradient, rate, first, second, self.epsilon)


@keras.saving.register_keras_serializable(package="keras_vitbert")
class SGD(KerasUpdate, keras.optimizers.SGD):
    """`keras.optimizers.SGD` for summed gradients; its bound is for steps without `nesterov`."""

    def largest_update(self, gradient_norm):
        """The most by which the next gradient may move a weight, and the momentum."""
        return gradient_norm * self._largest_rate(), self.momentum


@keras.saving.register_keras_serializable(package="keras_vitbert")
class Lamb(KerasUpdate, keras.optimizers.Lamb):
    """`keras.optimizers.Lamb` (You et al. 2020, algorithm 2) for summed gradients.

    In the paper, weight decay is part of the step that is scaled to the length of the weights.
    Here, as in Keras, it comes before, and biases and norms also have steps scaled to their own
    length. `beta_1**2` must be below `beta_2`.
    """

    def largest_update(self, gradient_norm):
        """The most by which the next gradient may move a weight, apart from weight decay.

        A variable moves by the rate times its own norm; one that is 0 moves by as much as in Adam.
        """
        norms = ops.stack([_norm(variable) for variable in self._trainable_variables])
        of_zeros = _most_of_adam(self.beta_1, self.beta_2) * _corrected(self, 1.0)
        return self._largest_rate() * ops.max(ops.where(norms > 0, norms, of_zeros)), 0.0


@keras.saving.register_keras_serializable(package="keras_vitbert")
class Lion(KerasUpdate, keras.optimizers.Lion):
    """`keras.optimizers.Lion` (Chen et al. 2023, algorithm 2) for summed gradients."""

    def largest_update(self, gradient_norm):
        """The most by which the next gradient may move a weight: the learning rate."""
        return ops.convert_to_tensor(self._largest_rate()), 0.0


@keras.saving.register_keras_serializable(package="keras_vitbert")
class Adafactor(KerasUpdate, keras.optimizers.Adafactor):
    """`keras.optimizers.Adafactor` (Shazeer and Stern 2018, algorithms 4 and 5).

    For summed gradients. Besides the factors, Keras keeps the second moment of each weight, so it
    takes the memory of one moment, where AdamW takes that of two.
    """

    def largest_update(self, gradient_norm):
        """The most by which the next gradient may move a weight, apart from weight decay.

        The root mean square of an update is at most `clip_threshold` (section 6), and a single
        entry at most that times the square root of the number of entries. The step is relative to
        the root mean square of the weights.
        """
        lengths = [
            ops.maximum(_norm(v), self.epsilon_2 * math.sqrt(math.prod(v.shape)))
            for v in self._trainable_variables
        ]
        step = ops.cast(self.iterations + 1, "float32")
        rate: Any = ops.minimum(self._largest_rate(), 1 / ops.sqrt(step))
        return rate * self.clip_threshold * ops.max(ops.stack(lengths)), 0.0


_CLASSES = {"adamw": AdamW, "lamb": Lamb, "lion": Lion, "adafactor": Adafactor, "sgd": SGD}


def _norm(variable):
    return ops.sqrt(ops.sum(ops.square(variable)))


def _corrected(optimizer, rate) -> Any:
    """A learning rate with the bias correction of both of Adam's moments."""
    step = ops.cast(optimizer.iterations + 1, "float32")
    rate = rate * ops.sqrt(1 - ops.power(optimizer.beta_2, step))
    return rate / (1 - ops.power(optimizer.beta_1, step))


def _most_of_adam(beta_1, beta_2):
    """See `AdamW.largest_update`."""
    return (1 - beta_1) / math.sqrt((1 - beta_2) * (1 - beta_1**2 / beta_2))


def build_optimizer(config: PretrainingOptimizer, steps: int, variables: list):
    """The optimiser of pre-training for so many steps, with warm-up and polynomial decay."""
    peak, warmup_steps = config.learning_rate, config.warmup_steps
    rate = WarmupPolynomialDecay(peak, warmup_steps, steps, config.power)
    return with_rate(config, rate, variables)


def with_rate(config: Optimizer, rate: Any, variables: list):
    """An optimiser by its name in a config, with a rate or its schedule, built; see `decays`."""
    options = {key: getattr(config, key) for key in OPTIONS[config.name]}
    if config.ema:
        options |= {"use_ema": True, "ema_momentum": config.ema}
    cls = _CLASSES[config.name]
    optimizer = cls(rate, weight_decay=config.weight_decay, **options)
    optimizer.build(variables)
    return optimizer
