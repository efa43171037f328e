"""Optimisers for gradients that are already summed over the replicas, and the learning rate.

Keras' optimisers clip each replica's gradient before they sum (keras#19308), which changes the
update. The joint step sums and clips by itself, so its optimiser must not sum again.
"""

import math
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from keras import ops

# What the mixin is mixed into, for type checkers.
_Optimizer = keras.optimizers.Optimizer if TYPE_CHECKING else object


class _SummedGradients(_Optimizer):
    """Skips the sum over replicas: `apply` is given gradients that are equal on all of them.

    A variable may have a learning rate of its own, see `scale_rates`.
    """

    _rate_scales: list[float] | None = None

    def scale_rates(self, scales):
        """Gives variables a part of the learning rate, weight decay included.

        Args:
            scales: list of float, one for each variable that the optimiser was built with.
        """
        self._rate_scales = list(scales)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, self._rate_of(variable, learning_rate))

    def _rate_of(self, variable, rate):
        if self._rate_scales is None:
            return rate
        return rate * self._rate_scales[self._get_variable_index(variable)]

    def finalize_variable_values(self, var_list):
        """Nothing: `fit` is called for parts of a training, and the average comes at its end."""

    def _apply_weight_decay(self, variables):
        """Keras' own asks the schedule for the learning rate at each variable."""
        if self.weight_decay is None:
            return
        scales = self._rate_scales or [1.0] * len(variables)
        decayed = [
            (variable.value, self.weight_decay * scale)
            for variable, scale in zip(variables, scales, strict=True)
            if self._use_weight_decay(variable)
        ]

        def decay(strategy, rate):
            for variable, part in decayed:

                def shrink(value, rate, part=part):
                    value.assign_sub(value * part * tf.cast(rate, value.dtype))

                strategy.extended.update(variable, shrink, args=(rate,), group=False)

        tf.distribute.get_replica_context().merge_call(decay, args=(self.learning_rate,))


@keras.saving.register_keras_serializable(package="keras_vitbert")
class AdamW(_SummedGradients, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` for summed gradients.

    The correction for moments that begin at 0 depends on the step alone, so it is computed once a
    step. Keras computes it for each variable: a third of the step's operations are then those of
    the optimiser. `amsgrad` is not supported.

    Raises:
        ValueError: if `amsgrad` is set.
    """

    def __init__(self, *args, amsgrad=False, **kwargs):
        super().__init__(*args, **kwargs)
        if amsgrad:
            raise ValueError("amsgrad is not supported; use keras.optimizers.AdamW")

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        step = ops.cast(self.iterations + 1, "float32")
        rate = learning_rate * ops.sqrt(1 - ops.power(self.beta_2, step))
        rate /= 1 - ops.power(self.beta_1, step)
        super()._backend_update_step(grads, trainable_variables, rate)

    def update_step(self, gradient, variable, learning_rate):
        """One step of Adam; the rate includes the correction (Kingma and Ba 2015, section 2)."""
        rate = self._rate_of(variable, learning_rate)
        index = self._get_variable_index(variable)
        momentum, velocity = self._momentums[index].value, self._velocities[index].value
        momentum.assign_add((gradient - momentum) * (1 - self.beta_1))
        velocity.assign_add((gradient * gradient - velocity) * (1 - self.beta_2))
        variable.assign_sub(momentum * rate / (tf.sqrt(velocity) + self.epsilon))


@keras.saving.register_keras_serializable(package="keras_vitbert")
class SGD(_SummedGradients, keras.optimizers.SGD):
    """`keras.optimizers.SGD` for summed gradients."""


def decays(variable):
    """Whether weight decay applies to a variable.

    The rule: matrices that multiply activations or are looked up by content decay (every `kernel`,
    word and segment `embeddings`). Biases, norms' `gamma` and `beta`, position embeddings and the
    class token do not.
    """
    return variable.path.split("/")[-1] in ("kernel", "embeddings")


def build_optimizer(config, steps, variables):
    """AdamW with warm-up and polynomial decay, from the `optimizer` section of a config.

    Args:
        config: mapping with `learning_rate` (the peak), `warmup_steps`, `power`, `beta_1`,
            `beta_2`, `epsilon`, `weight_decay`.
        steps: int, training steps in all.
        variables: the trainable variables; `decays` says which of them decay.
    """
    rate: Any = WarmupPolynomialDecay(
        config["learning_rate"], config["warmup_steps"], steps, config["power"]
    )
    optimizer = AdamW(
        learning_rate=rate,
        weight_decay=config["weight_decay"],
        beta_1=config["beta_1"],
        beta_2=config["beta_2"],
        epsilon=config["epsilon"],
    )
    # By variable and not by name: `var_names` would be matched against `variable.name`, which is
    # "kernel" everywhere (trap of `exclude_from_weight_decay`).
    optimizer.exclude_from_weight_decay(var_list=[v for v in variables if not decays(v)])
    optimizer.build(variables)
    return optimizer


@keras.saving.register_keras_serializable(package="keras_vitbert")
class WarmupPolynomialDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from 0 to the peak, then `peak * (1 - progress)**power` down to 0.

    Args:
        peak: float, the learning rate at step `warmup_steps`.
        warmup_steps: int >= 0.
        steps: int > `warmup_steps`, where the rate reaches 0.
        power: float, 1 for a straight line.

    Raises:
        ValueError: if `steps` is not larger than `warmup_steps`.
    """

    def __init__(self, peak, warmup_steps, steps, power=1.0):
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
        """The part of the peak that is left at a progress in [0, 1]."""
        return ops.power(1.0 - progress, self.power)

    def get_config(self):
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "steps": self.steps,
            "power": self.power,
        }


@keras.saving.register_keras_serializable(package="keras_vitbert")
class WarmupCosineDecay(WarmupPolynomialDecay):
    """Linear warm-up from 0 to the peak, then `peak * (1 + cos(pi * progress)) / 2` down to 0.

    Args:
        peak, warmup_steps, steps: as in `WarmupPolynomialDecay`.
    """

    def __init__(self, peak, warmup_steps, steps):
        super().__init__(peak, warmup_steps, steps)

    def decay(self, progress):
        return (1 + ops.cos(math.pi * progress)) / 2

    def get_config(self):
        return {"peak": self.peak, "warmup_steps": self.warmup_steps, "steps": self.steps}
