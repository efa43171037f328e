"""Optimisers for gradients that are already summed over the replicas, and the learning rate.

Keras' optimisers clip each replica's gradient before summing (keras#19308), which changes the
update. Our steps sum and clip themselves, so their optimiser must not sum again.
"""

import math
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from keras import ops

# The class that the mixin is combined with, for type checkers.
_Optimizer = keras.optimizers.Optimizer if TYPE_CHECKING else object


class _SummedGradients(_Optimizer):
    """Skips the sum over replicas: the gradients are already equal on all of them.

    Weight decay applies to the variables of `decays`. Variables may have their own learning rates,
    see `scale_rates`.
    """

    _rate_scales: list[float] | None = None

    def scale_rates(self, scales):
        """Scales the learning rate, and with it weight decay, of each variable.

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
        """Does nothing: `fit` may train only a part, and the average is used after the last."""

    def _apply_weight_decay(self, variables):
        """Shrinks the variables of `decays`; Keras would compute the rate again for each."""
        if not self.weight_decay:
            return
        scales = self._rate_scales or [1.0] * len(variables)
        decayed = [
            (variable.value, self.weight_decay * scale)
            for variable, scale in zip(variables, scales, strict=True)
            if decays(variable)
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

    The bias correction depends on the step only and is computed once a step; Keras computes it
    again for each variable. `amsgrad` is not supported.

    Raises:
        ValueError: `amsgrad` is set.
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
        """One Adam step (Kingma and Ba 2015, section 2).

        Args:
            gradient: tensor.
            variable: `tf.Variable`.
            learning_rate: scalar tensor, with the bias correction.
        """
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

    It applies to every `kernel` and to word and segment `embeddings`, but not to biases, norms'
    `gamma` and `beta`, position embeddings and the class token.

    Args:
        variable: Keras variable.
    """
    return variable.path.split("/")[-1] in ("kernel", "embeddings")


def build_optimizer(config, steps, variables):
    """AdamW with warm-up and polynomial decay, from the `optimizer` section of a config.

    Args:
        config: mapping with `learning_rate` (the peak), `warmup_steps`, `power`, `beta_1`,
            `beta_2`, `epsilon`, `weight_decay`.
        steps: int, of the whole training.
        variables: list of the trainable variables; see `decays`.
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
        ValueError: `steps` is not larger than `warmup_steps`.
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
        """The fraction of the peak that remains.

        Args:
            progress: scalar float tensor in [0, 1], of the time after the warm-up.
        """
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
        peak, warmup_steps, steps, power: as in `WarmupPolynomialDecay`; `power` has no effect.
    """

    def decay(self, progress):
        return (1 + ops.cos(math.pi * progress)) / 2
