"""Optimisers for gradients that are already summed over the replicas, and the learning rate.

Keras' optimisers clip each replica's gradient before summing (keras#19308), which changes the
update. Our steps sum and clip themselves, so their optimiser must not sum again.
"""

import math
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from keras import ops

from keras_vitbert.merging.entries import Parts, masked

# The class that the mixin is combined with, for type checkers.
_Optimizer = keras.optimizers.Optimizer if TYPE_CHECKING else object


class _SummedGradients(_Optimizer):
    """Applies gradients that are equal on all replicas already, or leaves all as it is.

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

    def apply(self, grads, trainable_variables=None, good=True):
        """Updates variables, unless the step is bad; counts the step.

        The averages of `use_ema` follow the weights in every step.

        Args:
            grads: list of tensors, finite also in a bad step, and None.
            trainable_variables: list of Keras variables; those of `build` by default.
            good: scalar bool tensor; where it is False, weights and moments keep their values.
        """
        variables = trainable_variables or self._trainable_variables
        if not self.built:
            self.build(variables)
        grads, variables = self._filter_empty_gradients(grads, variables)
        good = tf.convert_to_tensor(good)
        self._decay(variables, tf.where(good, self.learning_rate, 0.0))
        # The only further argument that reaches `update_step` on each device is the rate.
        factors = tf.stack(self.factors(good))
        self._backend_update_step(grads, variables, factors)
        if self.use_ema:
            self._update_model_variables_moving_average(self._trainable_variables)
        self._iterations.assign_add(1)

    def factors(self, good):
        """The numbers of an update, as `update_step` needs them: list of scalar tensors.

        Args:
            good: scalar bool tensor; if it is False, they are such that nothing changes.
        """
        raise NotImplementedError

    def split_moments(self, variables, softness=0.0):
        """Makes room for moments of two gradients, see `AdamW.split_moments`.

        Raises:
            ValueError: this optimiser cannot.
        """
        raise ValueError(f"{type(self).__name__} has no moments of two gradients; use AdamW")

    def largest_update(self, gradient_norm):
        """The most by which the next gradient may move a weight, apart from weight decay.

        Args:
            gradient_norm: scalar float32 tensor, after clipping.

        Returns:
            (scalar float32 tensor; float, the part of the last step's that is added to it).
        """
        raise NotImplementedError

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars

    def _rate_of(self, variable, rate):
        if self._rate_scales is None:
            return rate
        return rate * self._rate_scales[self._get_variable_index(variable)]

    def finalize_variable_values(self, var_list):
        """Does nothing: `fit` may train only a part, and the average is used after the last."""

    def _decay(self, variables, rate):
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

        tf.distribute.get_replica_context().merge_call(decay, args=(rate,))


@keras.saving.register_keras_serializable(package="keras_vitbert")
class AdamW(_SummedGradients, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` for summed gradients.

    The bias correction depends on the step only and is computed once a step; Keras computes it
    again for each variable. `amsgrad` is not supported.

    Raises:
        ValueError: `amsgrad` is set, or `beta_1**2` is not below `beta_2`.
    """

    def __init__(self, *args, amsgrad=False, **kwargs):
        super().__init__(*args, **kwargs)
        if amsgrad:
            raise ValueError("amsgrad is not supported; use keras.optimizers.AdamW")
        if self.beta_1**2 >= self.beta_2:
            # Then there is no bound on an update, and Adam need not converge.
            raise ValueError(f"beta_1**2 must be below beta_2, are {self.beta_1}, {self.beta_2}")

    def split_moments(self, variables, softness=0.0):
        """Gives variables moments of two gradients; their gradients are then `Parts`.

        Each part has its own moments, and the mask picks from both updates. With a mask that never
        changes and no softness this is Adam of the masked gradient, to the bit.

        Args:
            variables: list of Keras variables that the optimiser was built with.
            softness: float in [0, 0.5], see `keras_vitbert.merging.entries.masked`.
        """
        self._softness = softness
        self._image_moments = {
            self._get_variable_index(variable): [
                self.add_variable_from_reference(variable, name=f"image_{name}")
                for name in ("momentum", "velocity")
            ]
            for variable in variables
        }

    def factors(self, good):
        """Of the weights, the first and the second moment.

        Args:
            good: scalar bool tensor.
        """
        factors = self._corrected_rate(), 1 - self.beta_1, 1 - self.beta_2
        return [tf.where(good, x, 0.0) for x in factors]

    def _corrected_rate(self):
        """The learning rate with the correction of both moments."""
        step = ops.cast(self.iterations + 1, "float32")
        rate: Any = self.learning_rate * ops.sqrt(1 - ops.power(self.beta_2, step))
        return rate / (1 - ops.power(self.beta_1, step))

    def largest_update(self, gradient_norm):
        """The most by which the next gradient may move a weight, apart from weight decay.

        A moment is a weighted sum of gradients, and its ratio to the root of the second moment is
        largest where each gradient is `(beta_1 / beta_2)**age` times the newest (the inequality of
        Cauchy and Schwarz): `(1 - beta_1) / sqrt((1 - beta_2) (1 - beta_1**2 / beta_2))`. Adam's
        own bound (Kingma and Ba 2015, section 2.1) is that of gradients that are 0 before.

        Args:
            gradient_norm: scalar tensor, without effect: Adam's steps do not depend on the scale.

        Returns:
            (scalar float32 tensor; 0.0, as the moments are in it).
        """
        rest = 1 - self.beta_1**2 / self.beta_2
        most = (1 - self.beta_1) / math.sqrt((1 - self.beta_2) * rest)
        return self._corrected_rate() * most * max(self._rate_scales or [1.0]), 0.0

    def update_step(self, gradient, variable, learning_rate):
        """One Adam step (Kingma and Ba 2015, section 2).

        Args:
            gradient: tensor, or `Parts` of a variable of `split_moments`.
            variable: `tf.Variable`.
            learning_rate: vector, the `factors`.
        """
        rate, first, second = tf.unstack(learning_rate)
        rate = self._rate_of(variable, rate)
        index = self._get_variable_index(variable)

        def updated(gradient, moments):
            momentum, velocity = (moment.value for moment in moments)
            momentum.assign_add((gradient - momentum) * first)
            velocity.assign_add((gradient * gradient - velocity) * second)
            return momentum * rate / (tf.sqrt(velocity) + self.epsilon)

        moments = self._momentums[index], self._velocities[index]
        if isinstance(gradient, Parts):
            text = updated(gradient.text, moments)
            image = updated(gradient.image, self._image_moments[index])
            update = masked(gradient.mask, text, image, self._softness)
        else:
            update = updated(gradient, moments)
        variable.assign_sub(update)


@keras.saving.register_keras_serializable(package="keras_vitbert")
class SGD(_SummedGradients, keras.optimizers.SGD):
    """`keras.optimizers.SGD` for summed gradients. `nesterov` is not supported.

    Raises:
        ValueError: `nesterov` is set.
    """

    def __init__(self, *args, nesterov=False, **kwargs):
        super().__init__(*args, **kwargs)
        if nesterov:
            raise ValueError("nesterov is not supported; use keras.optimizers.SGD")

    def factors(self, good):
        """Of the gradient, of the momentum that remains, and of the momentum in the update.

        Args:
            good: scalar bool tensor.
        """
        return [
            tf.where(good, self.learning_rate, 0.0),
            tf.where(good, self.momentum, 1.0),
            tf.cast(good, tf.float32),
        ]

    def largest_update(self, gradient_norm):
        """The most by which the next gradient may move a weight, apart from weight decay.

        Args:
            gradient_norm: scalar float32 tensor, after clipping.

        Returns:
            (scalar float32 tensor; float, the momentum).
        """
        most = gradient_norm * self.learning_rate * max(self._rate_scales or [1.0])
        return most, self.momentum

    def update_step(self, gradient, variable, learning_rate):
        """One step of gradient descent with momentum.

        Args:
            gradient: tensor.
            variable: `tf.Variable`.
            learning_rate: vector, the `factors`.
        """
        rate, kept, applied = tf.unstack(learning_rate)
        change = gradient * self._rate_of(variable, rate)
        if self.momentum:
            momentum = self.momentums[self._get_variable_index(variable)].value
            momentum.assign(momentum * kept - change)
            variable.assign_add(momentum * applied)
        else:
            variable.assign_sub(change)


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
