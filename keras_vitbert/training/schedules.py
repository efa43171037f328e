"""The learning rate over a training run: it rises, then decays to 0."""

import math

import keras
from keras import ops


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
            progress: scalar float tensor in [0, 1], the fraction of the time after the warm-up.
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
