"""The fine-tuning step: one loss, one sum over the replicas, one clip, one update."""

from typing import Any

import keras

from keras_vitbert.model.classifier import Classifier
from keras_vitbert.model.tensors import Tensor, Tensors, ops
from keras_vitbert.training.backends import backend
from keras_vitbert.training.base_trainer import BaseTrainer
from keras_vitbert.training.losses import cross_entropy, smoothed_cross_entropy


class FineTuner(BaseTrainer):
    """Trains a `Classifier`, for `compile` and `fit`; further arguments are `BaseTrainer`'s.

    Args:
        clip_norm: the global norm that the summed gradient is clipped to.
        label_smoothing: in [0, 1), the weight of the uniform distribution in the labels.

    Batches are dicts of the classifier's inputs and `labels` `(batch,)`; mixed images also have
    `mix_labels` and `mix_weights`, see `pipelines.images.image_views.mix`; with image layers,
    training takes `numbers` `(batch, 2)`.
    """

    def __init__(
        self,
        network: Classifier,
        clip_norm: float = 1.0,
        label_smoothing: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(network, clip_norm=clip_norm, **kwargs)
        self.label_smoothing = label_smoothing
        self.means = {name: keras.metrics.Mean(name) for name in ("loss", "accuracy")}

    def train_step(self, batch: Tensors) -> Tensors:
        step = ops.convert_to_tensor(self.optimizer.iterations.value)
        variables = self.network.trainable_variables
        batch = self.augment(batch, "numbers")
        shares = self.distribute_strategy.num_replicas_in_sync * self.accumulation

        def gradients_of(batch: Tensors, part: Tensor) -> tuple:
            def mean_loss() -> tuple[Tensor, tuple[Tensor, Tensor]]:
                logits = self.forward(batch, step, part=part)
                losses = self._example_losses(batch, logits)
                # A share of the mean over all, so that summed gradients are those of one batch.
                return ops.mean(losses) / shares, (logits, losses)

            gradients, loss, (logits, losses) = backend.gradients(mean_loss, variables)
            right = ops.equal(ops.argmax(logits, axis=-1), batch["labels"])
            ones = ops.ones_like(losses)
            measured = {"loss": (losses, ones), "accuracy": (ops.cast(right, "float32"), ones)}
            return [gradients], [loss], measured

        [gradients], [loss], measured = self.sum_micro_batches(gradients_of, batch)
        *gradients, loss = backend.all_reduce([*gradients, loss])
        _, logs = self.update(gradients, loss, measured)
        return {**self.get_metrics_result(), **logs}

    def _example_losses(self, batch: Tensors, logits: Tensor) -> Tensor:
        """Cross-entropy of each example, `(batch,)`; for a mixed image, of its two labels."""

        def losses(labels: Tensor) -> Tensor:
            if self.label_smoothing:
                return smoothed_cross_entropy(labels, logits, self.label_smoothing)
            return cross_entropy(labels, logits)

        if "mix_labels" not in batch:
            return losses(batch["labels"])
        weights = batch["mix_weights"]
        return weights * losses(batch["labels"]) + (1 - weights) * losses(batch["mix_labels"])
