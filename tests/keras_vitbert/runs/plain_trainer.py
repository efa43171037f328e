"""As much of a trainer as checkpoints look at."""

import keras
import tensorflow as tf

from keras_vitbert.training.anomaly_guard import AnomalyGuard


class Trainer:
    """A step adds 1 to all, in place, as a compiled step does."""

    distribute_strategy = tf.distribute.get_strategy()

    def __init__(self, step=0):
        self.network = keras.Sequential(
            [keras.Input((64,)), keras.layers.Dense(64, name="dense")], name="net"
        )
        self.optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        self.optimizer.build(self.network.trainable_variables)
        self.optimizer.iterations.assign(step)
        self.anomaly_guard = AnomalyGuard(name="step_check")
        self.step, self.stop_training = step, False
        self.mean = keras.metrics.Mean("loss")
        variables = [*self.network.variables, *self.optimizer.variables, *self.mean.variables]
        self.values = [variable.value for variable in variables if variable.dtype == "float32"]
        self._add = tf.function(
            lambda: [value.assign_add(tf.ones_like(value)) for value in self.values]
        )

    @property
    def state_variables(self):
        return {
            "network": self.network.variables,
            "metrics": self.mean.variables,
            "step_check": [self.anomaly_guard.in_a_row, self.anomaly_guard.restores],
        }

    def train(self):
        self._add()
        self.optimizer.iterations.assign_add(1)
        self.step += 1

    def copies(self):
        return [value.numpy().copy() for value in self.values]
