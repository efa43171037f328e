"""Optimisers for gradients that are summed over the replicas already, and their learning rates."""

import math
from typing import Any

import keras
from keras import ops

from keras_vitbert.configs.optimizers import OPTIONS
from keras_vitbert.training.engines.chosen import engine
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
    again for each variable. `amsgrad` is not supported.

    Raises:
        ValueError: `amsgrad` is set, or `beta_1**2` is not below `beta_2`.
    """

    def __init__(self, *args, amsgrad=False, **kwargs):
        super().__init__(*args, **kwargs)
        if amsgrad:
            raise ValueError("amsgrad is not supported; use keras.optimizers.AdamW")
        _require_bound(self)

    def factors(self, good):
        """The factors of the weights, the first moment and the second moment.

        Args:
            good: scalar bool tensor.
        """
        factors = _corrected(self, self.learning_rate), 1 - self.beta_1, 1 - self.beta_2
        return [ops.where(good, x, 0.0) for x in factors]

    def largest_update(self, gradient_norm):
        """The most by which the next gradient may move a weight, apart from weight decay.

        A moment is a weighted sum of gradients, and its ratio to the root of the second moment is
        largest where each gradient is `(beta_1 / beta_2)**age` times the newest (the inequality of
        Cauchy and Schwarz): `(1 - beta_1) / sqrt((1 - beta_2) (1 - beta_1**2 / beta_2))`. Adam's
        own bound (Kingma and Ba 2015, section 2.1) is for gradients that were 0 before.

        Args:
            gradient_norm: scalar tensor, without effect: Adam's steps do not depend on the scale.

        Returns:
            (scalar float32 tensor; 0.0, as the first value includes the moments).
        """
        most = _most_of_adam(self.beta_1, self.beta_2)
        return _corrected(self, self._largest_rate()) * most, 0.0

    def update_step(self, gradient, variable, learning_rate):
        """One Adam step (Kingma and Ba 2015, section 2).

        Args:
            gradient: tensor.
            variable: as the engine gives it, see `update_each`.
            learning_rate: vector, the `factors`.
        """
        rate, first, second = ops.unstack(learning_rate)
        rate = self._rate_of(variable, rate)
        index = self._get_variable_index(variable)
        moments = self._momentums[index], self._velocities[index]
        engine.adam(variable, moments, gradient, rate, first, second, self.epsilon)


@keras.saving.register_keras_serializable(package="keras_vitbert")
class SGD(KerasUpdate, keras.optimizers.SGD):
    """`keras.optimizers.SGD` for summed gradients. `nesterov` is not supported.

    Raises:
        ValueError: `nesterov` is set.
    """

    def __init__(self, *args, nesterov=False, **kwargs):
        super().__init__(*args, **kwargs)
        if nesterov:
            raise ValueError("nesterov is not supported; use keras.optimizers.SGD")

    def largest_update(self, gradient_norm):
        """The most by which the next gradient may move a weight, apart from weight decay.

        Args:
            gradient_norm: scalar float32 tensor, after clipping.

        Returns:
            (scalar float32 tensor; float, the momentum).
        """
        return gradient_norm * self._largest_rate(), self.momentum


@keras.saving.register_keras_serializable(package="keras_vitbert")
class Lamb(KerasUpdate, keras.optimizers.Lamb):
    """`keras.optimizers.Lamb` (You et al. 2020, algorithm 2) for summed gradients.

    In the paper, weight decay is part of the step that is scaled to the length of the weights.
    Here, as in Keras, it comes before, and biases and norms also have steps scaled to their own
    length.

    Raises:
        ValueError: `beta_1**2` is not below `beta_2`.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        _require_bound(self)

    def largest_update(self, gradient_norm):
        """The most by which the next gradient may move a weight, apart from weight decay.

        A variable moves by the rate times its own norm; one that is 0 moves by as much as in Adam.

        Args:
            gradient_norm: scalar tensor, without effect.

        Returns:
            (scalar float32 tensor; 0.0, as the first value includes the moments).
        """
        norms = ops.stack([_norm(variable) for variable in self._trainable_variables])
        of_zeros = _most_of_adam(self.beta_1, self.beta_2) * _corrected(self, 1.0)
        return self._largest_rate() * ops.max(ops.where(norms > 0, norms, of_zeros)), 0.0


@keras.saving.register_keras_serializable(package="keras_vitbert")
class Lion(KerasUpdate, keras.optimizers.Lion):
    """`keras.optimizers.Lion` (Chen et al. 2023, algorithm 2) for summed gradients."""

    def largest_update(self, gradient_norm):
        """The most by which the next gradient may move a weight: the learning rate.

        Args:
            gradient_norm: scalar tensor, without effect.

        Returns:
            (scalar float32 tensor; 0.0).
        """
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

        Args:
            gradient_norm: scalar tensor, without effect.

        Returns:
            (scalar float32 tensor; 0.0).
        """
        lengths = [
            ops.maximum(_norm(v), self.epsilon_2 * math.sqrt(math.prod(v.shape)))
            for v in self._trainable_variables
        ]
        step = ops.cast(self.iterations + 1, "float32")
        rate: Any = ops.minimum(self._largest_rate(), 1 / ops.sqrt(step))
        return rate * self.clip_threshold * ops.max(ops.stack(lengths)), 0.0


_CLASSES = {"adamw": AdamW, "lamb": Lamb, "lion": Lion, "adafactor": Adafactor, "sgd": SGD}


def _require_bound(optimizer):
    """Otherwise an update of Adam's kind has no bound and need not converge."""
    beta_1, beta_2 = optimizer.beta_1, optimizer.beta_2
    if beta_1**2 >= beta_2:
        raise ValueError(f"beta_1**2 must be below beta_2; beta_1 is {beta_1}, beta_2 is {beta_2}")


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


def build_optimizer(config, steps, variables):
    """The optimiser of pre-training, with warm-up and polynomial decay.

    Args:
        config: mapping, the `optimizer` section of a config: also `learning_rate` (the peak),
            `warmup_steps` and `power`.
        steps: int, of the whole training.
        variables: list of the trainable variables.
    """
    peak, warmup_steps = config.learning_rate, config.warmup_steps
    rate = WarmupPolynomialDecay(peak, warmup_steps, steps, config.power)
    return with_rate(config, rate, variables)


def with_rate(config, rate, variables):
    """An optimiser by its name in the `optimizer` section of a config, built.

    Args:
        config: mapping with `name`, a key of `keras_vitbert.configs.optimizers.OPTIONS`, the
            options of that optimiser, `weight_decay` and `ema`.
        rate: float or learning rate schedule.
        variables: list of the trainable variables; see `decays`.
    """
    options = {key: getattr(config, key) for key in OPTIONS[config.name]}
    if config.ema:
        options |= {"use_ema": True, "ema_momentum": config.ema}
    cls = _CLASSES[config.name]
    optimizer = cls(rate, weight_decay=config.weight_decay, **options)
    optimizer.build(variables)
    return optimizer
