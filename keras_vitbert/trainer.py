"""What pre-training and fine-tuning ask of Keras' `fit` alike."""

import keras
import tensorflow as tf

from keras_vitbert.random_layers import RandomLayers


class Trainer(keras.Model):
    """A `keras.Model` whose train step sums gradients over the replicas by itself.

    A subclass has `network`, what is trained; `means`, a dict of `keras.metrics.Mean`; and a
    `train_step` whose gradients are summed before the optimiser sees them.

    Args:
        network: a Keras model.
        seed: int in [0, 2**32), of the random layers in training.

    Attributes:
        step: int, the steps done, known on the host: to ask the device each step would stall it.
        probe_requested: bool, whether the next step is one of another kind.
    """

    def __init__(self, network, seed=0, **kwargs):
        super().__init__(**kwargs)
        self.network = network
        self.random_layers = RandomLayers(network, seed)
        self.means = {}
        self.step = 0
        self.probe_requested = False
        self.built = True

    @property
    def state_variables(self):
        """What a checkpoint holds beside the optimiser: dict of a name to variables."""
        return {
            "network": self.network.variables,
            "metrics": [variable for mean in self.metrics for variable in mean.variables],
        }

    def log_values(self):
        """What else belongs into the log at the end of an epoch: dict of name to float."""
        return {}

    def forward(self, inputs, place=0):
        """What the network returns in a training step.

        Args:
            inputs: what the network takes.
            place: int, tells the forward passes of a step apart.
        """
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        with self.random_layers.keyed(self.optimizer.iterations.value, replica, place):
            return self.network(inputs, training=True)

    def make_train_function(self, force=False):
        if self.train_function is not None and not force:
            return
        run_step = self._make_function(self.train_step)

        def train_function(iterator):
            logs = run_step(iterator)
            self.step += self.steps_per_execution
            return logs

        self.train_function = train_function

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Nothing: network, optimiser and metrics are built before `fit`.

        Keras would average the first batch over the replicas for this, strings and labels too.
        """

    @property
    def metrics(self):
        return list(self.means.values())

    def _get_metrics_result_or_logs(self, logs):
        """An epoch's logs: means over all replicas.

        The step's own are made on each replica, and Keras takes the plain mean of those. It would
        keep them, because the step adds the gradient's norm.
        """
        return {**logs, **self.get_metrics_result()}


def dense(gradients):
    """Gradients as dense tensors, None kept.

    The word embeddings' gradient comes as `IndexedSlices`; AdamW would square its duplicate rows
    one by one instead of their sum.
    """
    return [None if g is None else tf.convert_to_tensor(g) for g in gradients]
