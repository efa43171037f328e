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

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_vitbert.merging.merge import Merge, both_reached, present


class TwoTaskTrainer(keras.Model):
    """Trains a model on two losses whose gradients are merged.

    Gradients of variables that both losses reach are merged; any other variable gets the gradient
    of its loss. The first task is the one that this package calls text, the second the one that it
    calls image. Weights, outputs and predictions are those of `network`, which is saved as usual.

    `network.losses`, such as those of regularizers, belong to no task: their gradient is added to
    the merged one. The `sample_weight` of `fit` and `evaluate` weighs both losses, or is a dict of
    a name to the weights of its loss. As in Keras, a step whose gradient is not finite is skipped
    with `mixed_float16`; then the state of the merge does not change either. Made within the scope
    of a `tf.distribute` strategy, like `network`, it merges the gradients of the whole batch.

    Args:
        network: a built Keras model whose outputs are a dict.
        losses: dict of two names of outputs to `keras.losses.Loss`, or to functions of
            `(targets, outputs)` whose mean is the loss; these take no `sample_weight`.
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
        reached = {}

        def find():
            with tf.GradientTape(persistent=True) as tape:
                outputs = self.network(tf.nest.map_structure(zeros, self.network.input))
                totals = {name: tf.reduce_sum(outputs[name]) for name in self.losses_of}
            values = [variable.value for variable in variables]
            reached.update({name: tape.gradient(totals[name], values) for name in totals})

        # Traced and not run; in a replica, because a mirrored variable has gradients nowhere else.
        tf.function(lambda: tf.distribute.get_strategy().run(find)).get_concrete_function()
        shared = [
            variable
            for variable, *both in zip(variables, *reached.values(), strict=True)
            if all(gradient is not None for gradient in both)
        ]
        if not shared:
            raise ValueError("no trainable variable is reached by both losses")
        return shared

    def _task_losses(self, inputs, targets, weights, training):
        """The loss of each task, and the sum of `network.losses`: scalar float32 tensors.

        They are this replica's shares: their sums over the replicas are those of the whole batch.
        """
        count = tf.distribute.get_strategy().num_replicas_in_sync
        outputs = self.network(inputs, training=training)
        losses = []
        for name, loss in self.losses_of.items():
            given = [targets[name], outputs[name]]
            weight = weights.get(name) if isinstance(weights, dict) else weights
            if weight is not None:
                if not isinstance(loss, keras.losses.Loss):
                    raise ValueError(
                        f"the loss of {name} is a function, which takes no sample_weight; make it "
                        "a keras.losses.Loss"
                    )
                given.append(weight)
            value: Any = loss(*given)
            value = tf.cast(value, "float32")
            if not isinstance(loss, keras.losses.Loss) or loss.reduction in (None, "none"):
                size = tf.cast(tf.size(value), "float32") * count  # 0 for an empty share
                value = tf.math.divide_no_nan(tf.reduce_sum(value), size)
            losses.append(value)  # a Keras loss divides by the number of replicas itself
        penalties = [tf.cast(tf.reduce_sum(loss), "float32") for loss in self.network.losses]
        return losses, tf.add_n([tf.zeros(()), *penalties]) / count

    def train_step(self, data):
        """One update.

        Args:
            data: (inputs, dict of targets) or (inputs, dict of targets, sample weights), this
                replica's share.

        Returns:
            dict of name to scalar tensor.
        """
        inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
        replicas = tf.distribute.get_replica_context()
        count = replicas.num_replicas_in_sync
        step = tf.convert_to_tensor(self.optimizer.iterations.value)
        variables = [variable.value for variable in self.network.trainable_variables]
        with tf.GradientTape(persistent=True) as tape:
            losses, penalty = self._task_losses(inputs, targets, weights, training=True)
            scaled = [self.optimizer.scale_loss(loss) for loss in (*losses, penalty)]
        found = [tape.gradient(loss, variables) for loss in scaled]
        # Not every merge of scaled gradients is the scaled merge; `apply` divides by it again.
        scale = self.optimizer.scale_loss(1.0)
        # Merges see the whole batch.
        gradients, placed = present(found)
        gradients = [[tf.convert_to_tensor(g) / scale for g in row] for row in gradients]
        gradients, losses, penalty = replicas.all_reduce(
            tf.distribute.ReduceOp.SUM, [gradients, losses, penalty]
        )
        first, second, rest = placed(gradients)
        mask, masks = self.merge.mask, None
        if mask:
            texts, images = map(self.merge.of_chosen, both_reached(first, second))
            masks = mask.refreshed(texts, images, self.clear_counts.value)
        merged = self.merge.merge(first, second, losses, step, masks)
        merged_and_rest = zip(merged.gradients, rest, strict=True)
        gradients = [g if r is None else r if g is None else g + r for g, r in merged_and_rest]
        good = tf.reduce_all(
            [tf.reduce_all(tf.math.is_finite(g)) for g in gradients if g is not None]
        )
        # The optimiser sums over the replicas again.
        self.optimizer.apply(
            [None if g is None else g * (scale / count) for g in gradients],
            self.network.trainable_variables,
        )
        self.merge.keep(merged.state, good)
        if mask and masks:
            mask.keep(masks, good & tf.reduce_any(self.clear_counts.value > 0))
            self.clear_counts.assign(tf.zeros_like(self.clear_counts.value))
        if self.merge.needs_losses_after:
            after = self._task_losses(inputs, targets, weights, training=True)[0]
            after = replicas.all_reduce(tf.distribute.ReduceOp.SUM, after)
            self.merge.keep(self.merge.after(losses, after), good)
        return self._recorded(losses, penalty, targets)

    def test_step(self, data):
        """The losses of a batch.

        Args:
            data: see `train_step`.

        Returns:
            dict of name to scalar tensor.
        """
        inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
        count = tf.distribute.get_strategy().num_replicas_in_sync
        losses, penalty = self._task_losses(inputs, targets, weights, training=False)
        return self._recorded([count * loss for loss in losses], count * penalty, targets)

    def _recorded(self, losses, penalty, targets):
        examples = tf.shape(next(iter(targets.values())))[0]  # the last batch may be smaller
        values = [self.merge.loss(*losses) + penalty, *losses]
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
