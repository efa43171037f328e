"""Merges for any Keras model with two losses, by `fit`.

    outputs = {"digit": digit(features), "parity": parity(features)}
    model = keras.Model(inputs, outputs)
    losses = {
        "digit": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "parity": keras.losses.BinaryCrossentropy(from_logits=True),
    }
    trainer = TwoTaskTrainer(model, losses, Merge(PCGrad()))
    trainer.compile(optimizer="adam", metrics={"digit": ["accuracy"]})
    trainer.fit(x, {"digit": digits, "parity": parities})

`digits` and `parities` hold the class of each example, by the name of the output.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_vitbert.merging.masks import MaskSchedule
from keras_vitbert.merging.merge import Merge, without_none
from keras_vitbert.model.tensors import Tensor, Tensors, ops

LossFunction = Callable[[Any, Any], Any]  # of targets and outputs


class TwoTaskTrainer(keras.Model):
    """Trains a model on two losses whose gradients are merged.

    Gradients of variables that both losses reach are merged; any other variable gets the gradient
    of its loss. The first task is the one that this package calls text, the second the one that it
    calls image. Weights, outputs and predictions are those of `network`, which is saved as usual.

    `network.losses`, such as those of regularizers, belong to no task: their gradient is added to
    the merged one. The `sample_weight` of `fit` and `evaluate` weighs both losses, or is a dict of
    a name to the weights of its loss. As in Keras, a step whose gradient is not finite is skipped
    with `mixed_float16`; then the state of the merge does not change either. Made within the scope
    of a `tf.distribute` strategy, like `network`, it merges the gradients of the whole batch, and
    the optimiser clips the merged one. `compile` makes the optimiser this trainer's own: it no
    longer sums over the replicas.

    `fit` and `evaluate` take the inputs of `network` and a dict of targets, by the names of the
    losses. A target has the shape that its loss takes beside the output: of one that is
    `(batch, classes)`, `(batch,)` integers for `SparseCategoricalCrossentropy` and
    `(batch, classes)` for `CategoricalCrossentropy`; of one that is `(batch, 1)`, `(batch, 1)` for
    `BinaryCrossentropy` or `MeanSquaredError`.

    Args:
        network: a Keras model whose outputs are a dict: functional, or called on a `keras.Input`.
        losses: two names of outputs with their `keras.losses.Loss`, or with functions of
            `(targets, outputs)` whose mean is the loss.
        merge: of both gradients.
        mask_schedule: by which `fit` updates the masks of `merge`; None for the paper's, which is
            complete after 5 % of its steps.

    Raises:
        ValueError: the backend is not TensorFlow; there are not two losses; no variable is reached
            by both; or `mask_schedule` has no masks.
        AttributeError: the inputs of `network` are unknown.
        KeyError: a name in `losses` is no output.
    """

    def __init__(
        self,
        network: keras.Model,
        losses: dict[str, keras.losses.Loss | LossFunction],
        merge: Merge,
        mask_schedule: MaskSchedule | None = None,
        **kwargs: Any,
    ):
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                f"TwoTaskTrainer needs Keras' backend tensorflow, not {keras.backend.backend()}"
            )
        super().__init__(**kwargs)
        if len(losses) != 2:
            raise ValueError(f"losses: must be of two outputs, not {', '.join(losses) or 'none'}")
        if mask_schedule and not merge.mask:
            raise ValueError("mask_schedule is given, but merge has no masks")
        self.network = network
        self.losses_of = {name: _reduced(loss) for name, loss in losses.items()}
        self.merge = merge
        self.output_names = list(losses)  # in whose order `compile` takes a list of metrics
        self.mask_schedule = (mask_schedule or MaskSchedule()) if merge.mask else None
        self.means = [keras.metrics.Mean(f"{task}_loss") for task in losses]
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

    def call(self, inputs: Any, training: bool = False) -> Tensors:
        return self.network(inputs, training=training)

    def compile(self, optimizer: Any = "rmsprop", **kwargs: Any) -> None:
        super().compile(optimizer, loss=None, loss_weights=None, **kwargs)
        # Keras clips before it sums over the replicas; `train_step` gives it sums.
        _inner(self.optimizer)._all_reduce_sum_gradients = lambda gradients: gradients

    def fit(self, *args: Any, callbacks: Any = None, **kwargs: Any) -> keras.callbacks.History:
        callbacks = keras.tree.flatten(callbacks or [])
        if any(isinstance(callback, MaskSchedule) for callback in callbacks):
            raise ValueError("callbacks has a MaskSchedule; give it to TwoTaskTrainer instead")
        if self.mask_schedule:
            callbacks.append(self.mask_schedule)
        return super().fit(*args, callbacks=callbacks, **kwargs)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        if self.mask_schedule:
            raise ValueError("train_on_batch has no schedule of masks; use fit")
        return super().train_on_batch(*args, **kwargs)

    @property
    def step(self) -> int:
        """Completed steps."""
        return int(_inner(self.optimizer)._iterations.numpy())

    def _shared_variables(self) -> list[keras.Variable]:
        """The trainable variables that both losses reach."""

        def zeros(tensor: keras.KerasTensor) -> tf.Tensor:
            return tf.zeros([size or 1 for size in tensor.shape], tensor.dtype)

        inputs = self.network.input
        variables = self.network.trainable_variables
        reached = {}

        def find() -> None:
            with tf.GradientTape(persistent=True) as tape:
                outputs = self.network(tf.nest.map_structure(zeros, inputs))
                totals = {name: tf.reduce_sum(outputs[name]) for name in self.losses_of}
            values = [variable.value for variable in variables]
            reached.update({name: tape.gradient(totals[name], values) for name in totals})

        # Traced and not run; in a replica, because a mirrored variable has gradients nowhere else.
        traced = tf.function(lambda: tf.distribute.get_strategy().run(find), autograph=False)
        traced.get_concrete_function()
        return [
            variable
            for variable, *both in zip(variables, *reached.values(), strict=True)
            if all(gradient is not None for gradient in both)
        ]

    def _task_losses(
        self, x: Any, y: Any, weights: Any, training: bool
    ) -> tuple[list[tf.Tensor], tf.Tensor, Tensors]:
        """The loss of each task, the sum of `network.losses`, and the outputs.

        Losses are scalar float32 tensors, this replica's shares: their sums over the replicas are
        those of the whole batch.
        """
        count = tf.distribute.get_strategy().num_replicas_in_sync
        outputs = self(x, training=training)
        losses = []
        for name, loss in self.losses_of.items():
            weight = weights.get(name) if isinstance(weights, dict) else weights
            # A Keras loss divides by the number of replicas itself.
            losses.append(ops.cast(loss(y[name], outputs[name], weight), "float32"))
        penalties = [tf.cast(tf.reduce_sum(loss), "float32") for loss in self.network.losses]
        return losses, tf.add_n([tf.zeros(()), *penalties]) / count, outputs

    def train_step(self, data: tuple) -> Tensors:
        """One update on this replica's share of inputs, dict of targets, and sample weights."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        replicas = tf.distribute.get_replica_context()
        step = tf.convert_to_tensor(self.optimizer.iterations)
        variables = [variable.value for variable in self.network.trainable_variables]
        with tf.GradientTape(persistent=True) as tape:
            losses, penalty, y_pred = self._task_losses(x, y, weights, training=True)
            scaled = [self.optimizer.scale_loss(loss) for loss in (*losses, penalty)]
        scaled_gradients = [tape.gradient(loss, variables) for loss in scaled]
        # Not every merge of scaled gradients is the scaled merge; `apply` divides by it again.
        scale = self.optimizer.scale_loss(1.0)
        self._record(losses, penalty, y)

        def summed(values: Any) -> Any:
            return replicas.all_reduce(tf.distribute.ReduceOp.SUM, values)

        # Of the whole batch, in float32, as losses and merges' state are.
        def whole(gradients: list[Tensor]) -> list[Tensor]:
            return summed([tf.cast(tf.convert_to_tensor(g), "float32") / scale for g in gradients])

        first, second, rest = without_none(whole, scaled_gradients)
        losses = summed(losses)
        clear = self.clear_counts.value if self.merge.mask else None
        merged = self.merge.merge(first, second, losses, step, clear)
        merged_and_rest = zip(merged.gradients, rest, strict=True)
        gradients = [g if r is None else r if g is None else g + r for g, r in merged_and_rest]
        good = tf.reduce_all(
            [tf.reduce_all(tf.math.is_finite(g)) for g in gradients if g is not None]
        )
        self.optimizer.apply(
            [
                None if g is None else tf.cast(g * scale, variable.dtype)
                for g, variable in zip(gradients, variables, strict=True)
            ],
            self.network.trainable_variables,
        )
        self.merge.keep(merged.state, good)
        if self.merge.mask:
            self.clear_counts.assign(tf.zeros_like(self.clear_counts.value))
        self.merge.learn(
            losses, lambda: summed(self._task_losses(x, y, weights, training=True)[0]), good
        )
        return self.compute_metrics(x, y, y_pred, weights)

    def test_step(self, data: tuple) -> Tensors:
        """The losses and metrics of a batch, see `train_step`."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        losses, penalty, y_pred = self._task_losses(x, y, weights, training=False)
        self._record(losses, penalty, y)
        return self.compute_metrics(x, y, y_pred, weights)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Tensors, sample_weight: Any = None
    ) -> Tensors:
        """The losses, and the metrics of `compile` on the outputs that have a loss."""
        y_pred = {name: y_pred[name] for name in self.losses_of}
        if isinstance(sample_weight, dict):  # which may lack one of them
            sample_weight = {name: sample_weight.get(name) for name in self.losses_of}
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def _record(self, losses: list[tf.Tensor], penalty: tf.Tensor, y: Any) -> None:
        """Adds to the means of the losses, which Keras takes over the replicas."""
        count = tf.distribute.get_strategy().num_replicas_in_sync
        examples = tf.shape(next(iter(y.values())))[0]  # the last batch may be smaller
        values = [self.merge.loss(*losses) + penalty, *losses]
        for mean, value in zip([self._loss_tracker, *self.means], values, strict=True):
            mean.update_state(count * value, sample_weight=examples)

    def request_gradient_stats(self, clear: int | np.ndarray = 0) -> None:
        """Makes the next step update the masks by `GradientMask.counts`, for `MaskSchedule`."""
        self.clear_counts.assign(np.broadcast_to(clear, self.clear_counts.shape).astype(np.int32))


def _reduced(loss: keras.losses.Loss | LossFunction) -> keras.losses.Loss:
    """A loss that Keras reduces to a number, with weights of examples and over replicas."""
    if isinstance(loss, keras.losses.Loss) and loss.reduction not in (None, "none"):
        return loss
    return _Mean(loss.call if isinstance(loss, keras.losses.Loss) else loss)


class _Mean(keras.losses.Loss):
    """The mean of a function of targets and outputs."""

    def __init__(self, function: LossFunction):
        super().__init__(name="mean")
        self.call = function  # pyright: ignore[reportAttributeAccessIssue]


def _inner(optimizer: Any) -> Any:
    """The optimiser that updates the variables: that within a `LossScaleOptimizer`."""
    return getattr(optimizer, "inner_optimizer", optimizer)
