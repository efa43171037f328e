"""Optimisers for gradients that are already summed over the replicas, and the learning rate.

Keras' optimisers clip each replica's gradient before they sum (keras#19308), which changes the
update. The joint step sums and clips by itself, so its optimiser must not sum again.
"""

import keras
from keras import ops


class _SummedGradients:
    """Skips the sum over replicas: `apply` is given gradients that are equal on all of them."""

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars


@keras.saving.register_keras_serializable(package="keras_vitbert")
class AdamW(_SummedGradients, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` for summed gradients."""


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
    optimizer = AdamW(
        learning_rate=WarmupPolynomialDecay(
            config["learning_rate"], config["warmup_steps"], steps, config["power"]
        ),
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
        decay = ops.power(1.0 - ops.clip(progress, 0.0, 1.0), self.power)
        return self.peak * ops.where(step < self.warmup_steps, warmup, decay)

    def get_config(self):
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "steps": self.steps,
            "power": self.power,
        }
