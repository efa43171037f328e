"""Merges for any Keras model with two losses, by `fit`.

outputs = {"digit": digit(features), "parity": parity(features)}
model = keras.Model(inputs, outputs)
losses = {
    "digit": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "parity": keras.losses.BinaryCrossentropy(from_logits=True),
}
trainer = TwoTaskTrainer(model, losses, Merge(PCGrad()))
trainer.compile(optimizer="adam")
trainer.fit(x, {"digit": digits, "parity": parities})
"""

import keras
import numpy as np
import tensorflow as tf

from keras_vitbert.merging.merge import Merge, both_reached, present


class TwoTaskTrainer(keras.Model):
    """Trains a model on two losses whose gradients are merged.

    Gradients of variables that both losses reach are merged; any other variable gets the gradient
    of its loss. The first task is the one that this package calls text, the second the one that it
    calls image. Weights, outputs and predictions are those of `network`, which is saved as usual.

    Args:
        network: a built Keras model whose outputs are a dict.
        losses: dict of two names of outputs to `keras.losses.Loss`, or to functions of
            `(targets, outputs)` whose mean is the loss.
        merge: `Merge`.

    Raises:
        ValueError: there are not two losses, no variable is reached by both, or the merge masks
            updates, for which Keras' optimisers have no moments.
    """

    def __init__(self, network, losses, merge, **kwargs):
        super().__init__(**kwargs)
        if len(losses) != 2:
            raise ValueError(f"losses has {len(losses)} names; give 2")
        if merge.masks_updates:
            raise ValueError("target must be gradient: Keras' optimisers have one pair of moments")
        self.network = network
        self.losses_of: dict = dict(losses)
        self.merge: Merge = merge
        self.means = {
            name: keras.metrics.Mean(name)
            for name in ("loss", *(f"{task}_loss" for task in self.losses_of))
        }
        merge.make_state(self._shared_variables())
        self.clear_counts = self.add_weight(
            name="clear_counts",
            shape=(merge.mask.groups if merge.mask else 1,),
            dtype="int32",
            initializer="zeros",
            trainable=False,
        )
        self.bad_steps = ()  # for `MaskSchedule`, which reads it
        self.built = True

    def call(self, inputs, training=False):
        return self.network(inputs, training=training)

    @property
    def step(self):
        """int, completed steps."""
        return int(self.optimizer.iterations.numpy())

    @property
    def metrics(self):
        return list(self.means.values())

    def _shared_variables(self):
        """The trainable variables that both losses reach."""

        def zeros(tensor):
            return tf.zeros([size or 1 for size in tensor.shape], tensor.dtype)

        variables = self.network.trainable_variables
        with tf.GradientTape(persistent=True) as tape:
            outputs = self.network(tf.nest.map_structure(zeros, self.network.input))
            totals = [tf.reduce_sum(outputs[name]) for name in self.losses_of]
        reached = [tape.gradient(total, [v.value for v in variables]) for total in totals]
        shared = [
            variable
            for variable, *both in zip(variables, *reached, strict=True)
            if all(gradient is not None for gradient in both)
        ]
        if not shared:
            raise ValueError("no trainable variable is reached by both losses")
        return shared

    def _task_losses(self, inputs, targets, training):
        outputs = self.network(inputs, training=training)
        return [
            tf.reduce_mean(loss(targets[name], outputs[name]))
            for name, loss in self.losses_of.items()
        ]

    def train_step(self, data):
        """One update.

        Args:
            data: (inputs, dict of targets), this replica's share.

        Returns:
            dict of name to scalar tensor.
        """
        inputs, targets, _ = keras.utils.unpack_x_y_sample_weight(data)
        replicas = tf.distribute.get_replica_context()
        count = replicas.num_replicas_in_sync
        step = tf.convert_to_tensor(self.optimizer.iterations.value)
        variables = [variable.value for variable in self.network.trainable_variables]
        with tf.GradientTape(persistent=True) as tape:
            losses = self._task_losses(inputs, targets, training=True)
        found = [tape.gradient(loss, variables) for loss in losses]
        # Everything is averaged: simple, and right for every merge.
        gradients, placed = present(found)
        gradients = [[tf.convert_to_tensor(g) for g in row] for row in gradients]
        gradients, losses = replicas.all_reduce(tf.distribute.ReduceOp.MEAN, [gradients, losses])
        first, second = placed(gradients)
        mask, masks = self.merge.mask, None
        if mask:
            texts, images = map(self.merge.of_chosen, both_reached(first, second))
            masks = mask.refreshed(texts, images, self.clear_counts.value)
        merged = self.merge.merge(first, second, losses, step, masks)
        # The optimiser sums over the replicas again.
        self.optimizer.apply(
            [None if g is None else g / count for g in merged.gradients],
            self.network.trainable_variables,
        )
        self.merge.keep(merged.state)
        if mask and masks:
            mask.keep(masks, tf.reduce_any(self.clear_counts.value > 0))
            self.clear_counts.assign(tf.zeros_like(self.clear_counts.value))
        if self.merge.needs_losses_after:
            after = self._task_losses(inputs, targets, training=True)
            after = replicas.all_reduce(tf.distribute.ReduceOp.MEAN, after)
            self.merge.keep(self.merge.after(losses, after))
        return self._recorded(losses, targets)

    def test_step(self, data):
        """The losses of a batch.

        Args:
            data: (inputs, dict of targets).

        Returns:
            dict of name to scalar tensor.
        """
        inputs, targets, _ = keras.utils.unpack_x_y_sample_weight(data)
        return self._recorded(self._task_losses(inputs, targets, training=False), targets)

    def _recorded(self, losses, targets):
        examples = tf.shape(next(iter(targets.values())))[0]  # the last batch may be smaller
        values = [self.merge.loss(*losses), *losses]
        for metric, value in zip(self.means.values(), values, strict=True):
            metric.update_state(value, sample_weight=examples)
        return {name: metric.result() for name, metric in self.means.items()}

    def request_probe(self, clear=0):
        """Makes the next step update the masks, when `MaskSchedule` asks for it.

        Args:
            clear: int array, see `GradientMask.counts`.
        """
        counts = np.broadcast_to(clear, self.clear_counts.shape)
        self.clear_counts.assign(counts.astype(np.int32))
