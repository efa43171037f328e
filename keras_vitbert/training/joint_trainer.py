"""The joint step: two losses, one merge, one sum over the replicas, one clip, one update."""

import functools
from typing import Any

import keras
import numpy as np

from keras_vitbert.merging import Merge
from keras_vitbert.model.pretraining_network import PreTrainingNetwork, image_inputs, text_inputs
from keras_vitbert.model.shared_weights import block_of
from keras_vitbert.model.tensors import Tensor, Tensors, ops
from keras_vitbert.training.backends import backend
from keras_vitbert.training.base_trainer import BaseTrainer
from keras_vitbert.training.distillation import Teachers
from keras_vitbert.training.gradient_conflict import ALL, GradientConflict
from keras_vitbert.training.losses import distillation_loss

_LABELS = {"image": "image_labels", "mlm": "masked_ids", "nsp": "next_sentence_labels"}


class JointTrainer(BaseTrainer):
    """Pre-trains a network on images and text, for `compile`, `fit` and `evaluate`.

    Further arguments are those of `BaseTrainer`.

    Args:
        network: with one modality only, its loss is the whole loss.
        merge: used with both modalities.
        teachers: required if `distillation_ratio` is above 0.
        distillation_ratio: in [0, 1], `a` of eq. 7.
        temperature: at least 0, `T` of eq. 7.
        clip_norm: the global norm that the merged gradient is clipped to.

    Attributes:
        conflict: the last probing step's results; None with one modality.
        refreshed: whether the last execution began with an update of the masks.

    Batches are dicts: `images` `(images, H, W, 3)`, uint8 or float in [0, 1], `image_labels`
    `(images,)`; `token_ids`, `segment_ids`, `padding_mask` `(texts, length)`, `masked_positions`,
    `masked_ids`, `masked_weights` `(texts, predictions)`, `next_sentence_labels` `(texts,)`. In
    evaluation `image_weights` and `text_weights` may mark padding with 0, so that every example
    counts once. Mixed images come with `image_mix_labels` and `image_mix_weights`, see
    `pipelines.images.image_views.mix`; with image layers, training takes `image_numbers`
    `(images, 2)`.

    Raises:
        ValueError: `distillation_ratio` is above 0 and there are no teachers.
    """

    curves = ("mask_sparsity", "merge/text_weight", "merge/image_weight", "merge/cosine")

    def __init__(
        self,
        network: PreTrainingNetwork,
        merge: Merge,
        teachers: Teachers | None = None,
        distillation_ratio: float = 0.0,
        temperature: float = 1.0,
        clip_norm: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(network, clip_norm=clip_norm, **kwargs)
        if distillation_ratio > 0 and teachers is None:
            raise ValueError(f"distillation_ratio is {distillation_ratio}, but teachers is None")
        self.merge = merge
        self.teachers = teachers or Teachers()
        self.distillation_ratio = distillation_ratio
        self.temperature = temperature
        self.has_images = network.backbone.image_size is not None
        self.has_text = network.backbone.vocabulary_size is not None
        self.shared = network.backbone.shared_variables
        self.conflict: GradientConflict | None = None
        if self.has_images and self.has_text:
            self.conflict = GradientConflict(self.shared)
            merge.make_state(self.shared)

        tasks = (["image"] if self.has_images else []) + (["mlm", "nsp"] if self.has_text else [])
        self.means = {
            name: keras.metrics.Mean(name)
            for task in tasks
            for name in (f"{task}_loss", f"{task}_accuracy")
        }

        # How many entries the next probing step clears, see `request_gradient_stats`.
        mask = merge.mask if self.conflict else None
        self.clear_counts = self.add_weight(
            name="clear_counts",
            shape=(mask.groups if mask else 1,),
            dtype="int32",
            initializer="zeros",
            trainable=False,
        )
        self.refreshed = self._clears = False

    # --- the step ------------------------------------------------------------------------------

    def train_step(self, batch: Tensors, probing: bool = False) -> Tensors:
        """One joint update; the equation numbers are the paper's.

        Args:
            batch: this replica's share; see the class.
            probing: whether to run Algorithm 1 and to compare both gradients on the shared encoder,
                summed over the replicas.
        """
        step = ops.convert_to_tensor(self.optimizer.iterations.value)
        variables = self.network.trainable_variables
        batch = self.augment(batch, "image_numbers")
        totals = self._totals(batch)

        def text_loss(batch: Tensors, part: Tensor, taught: Tensors) -> tuple:
            with keras.name_scope("text"):
                logits = self.forward(text_inputs(batch), step, 0, part)  # eq. 2 to 6
                return self._loss(("mlm", "nsp"), batch, logits, taught, totals)  # eq. 7

        def image_loss(batch: Tensors, part: Tensor, taught: Tensors) -> tuple:
            with keras.name_scope("image"):
                logits = self.forward(image_inputs(batch), step, 1, part)  # eq. 1 and 3 to 6
                return self._loss(("image",), batch, logits, taught, totals)  # eq. 7

        losses_of = [text_loss] * self.has_text + [image_loss] * self.has_images

        def gradients_of(batch: Tensors, part: Tensor) -> tuple:
            gradients, losses, measured, taught = [], [], {}, self.teachers(batch)
            for loss_of in losses_of:
                if self.in_turn:  # saves memory
                    batch = backend.delay(batch, gradients)
                one_loss = functools.partial(loss_of, batch, part, taught)
                gradient, loss, values = backend.gradients(one_loss, variables)
                gradients.append(gradient)  # dL_text, dL_image
                losses.append(loss)
                measured |= values
            return gradients, losses, measured

        gradients, losses, measured = self.sum_micro_batches(gradients_of, batch)
        if self.conflict is None:
            *gradients, loss = backend.all_reduce([*gradients[0], *losses])
            logs = self.update(gradients, loss, measured)[1]
        else:
            clear = ops.convert_to_tensor(self.clear_counts.value) if probing else None
            text, image = gradients
            with keras.name_scope("merge"):  # Algorithm 1, eq. 8 or 9, one sum over the replicas
                merged = self.merge.merge(text, image, losses, step, clear, backend.all_reduce)
            good, logs = self.update(merged.gradients, merged.loss, measured)  # clip and update
            self.merge.keep(merged.state, good)
            # Most merges do not ask for the losses after the update; its gradients are idle.
            again = functools.partial(self.sum_micro_batches, gradients_of, batch)
            self.merge.learn(merged.losses, lambda: backend.all_reduce(again()[1]), good)
            if probing:
                text, image = merged.both
                self.conflict.measure(text, image, good)
        return {**self.get_metrics_result(), **logs}

    def test_step(self, batch: Tensors) -> Tensors:
        """Cross-entropies and accuracies of this replica's share, without teachers and dropout."""

        def measure(batch: Tensors, part: Tensor) -> tuple:
            measured = {}
            if self.has_text:
                logits = self.network(text_inputs(batch), training=False)
                measured |= self._loss(("mlm", "nsp"), batch, logits, {})[1]
            if self.has_images:
                logits = self.network(image_inputs(batch), training=False)
                measured |= self._loss(("image",), batch, logits, {})[1]
            return [], [], measured

        self.record(self.sum_micro_batches(measure, batch)[2])
        return self.get_metrics_result()

    # --- losses --------------------------------------------------------------------------------

    def _weights(self, batch: Tensors) -> Tensors:
        """The weight of each example of a task, or of each masked token for masked-LM."""
        weights = {}
        if self.has_text:
            rows = ops.ones_like(batch["next_sentence_labels"], "float32")
            rows = batch.get("text_weights", rows)
            weights |= {"mlm": batch["masked_weights"] * rows[:, None], "nsp": rows}
        if self.has_images:
            ones = ops.ones_like(batch["image_labels"], "float32")
            weights["image"] = batch.get("image_weights", ones)
        return weights

    def _totals(self, batch: Tensors) -> Tensors:
        """The sum of each task's weights over all replicas."""
        sums = {task: ops.sum(weights) for task, weights in self._weights(batch).items()}
        return {task: ops.maximum(total, 1.0) for task, total in backend.all_reduce(sums).items()}

    def _loss(
        self,
        tasks: tuple[str, ...],
        batch: Tensors,
        logits: Tensors,
        taught: Tensors,
        totals: Tensors | None = None,
    ) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        """This batch's share of the sum of some tasks' weighted mean losses (eq. 7).

        Of text this is `L_text = L_mlm + L_nsp`. The shares of all replicas, and of all
        micro-batches, sum to the means, however the weights are distributed, so that summed
        gradients are those of one large batch. This needs `totals`; without it the share is 0. Also
        returns the metrics' values and weights, see `sum_micro_batches`.
        """
        share: Tensor = 0.0
        weights, measured = self._weights(batch), {}
        for task in tasks:
            labels = batch[_LABELS[task]]
            student, teacher = logits[f"{task}_logits"], taught.get(f"{task}_logits")
            ratio = 0.0 if teacher is None else self.distillation_ratio
            settings = student, teacher, ratio, self.temperature
            losses = distillation_loss(labels, *settings)
            if f"{task}_mix_labels" in batch:  # of mixed images
                weight, second = batch[f"{task}_mix_weights"], batch[f"{task}_mix_labels"]
                losses = weight * losses + (1 - weight) * distillation_loss(second, *settings)
            correct = ops.cast(ops.equal(ops.argmax(student, axis=-1), labels), "float32")
            measured |= {
                f"{task}_loss": (losses, weights[task]),
                f"{task}_accuracy": (correct, weights[task]),
            }
            if totals is not None:
                share += ops.sum(losses * weights[task]) / totals[task]
        return share, measured

    # --- probing -------------------------------------------------------------------------------

    def request_gradient_stats(self, clear: int | np.ndarray = 0) -> None:
        """Makes the next training step a probing step; does nothing with one modality.

        A probing step records `conflict` and, if `clear` is above 0, runs one update of Algorithm 1
        before it merges. It costs one more sum of both gradients over the replicas.

        Args:
            clear: entries of the mask to clear, see `GradientMask.counts`.
        """
        if self.conflict is not None:
            clears = bool(np.any(clear))
            if clears or not self.probe_requested:
                shape = self.clear_counts.shape
                self.clear_counts.assign(np.broadcast_to(clear, shape).astype(np.int32))
                self._clears = clears
            self.probe_requested = True

    def probe_values(self) -> dict[str, float]:
        """The last probing step's results; empty with one modality."""
        if self.conflict is None:
            return {}
        values = self.conflict.values()[ALL]
        return {
            "text_gradient_norm": values["text_norm"],
            "image_gradient_norm": values["image_norm"],
            "gradient_cosine": values["cosine"],
        }

    def mask_sparsity(self) -> dict[str, float]:
        """The fraction of cleared mask entries; with several processes, all must call this.

        Returns:
            `mask_sparsity`, overall, and `mask_sparsity/block_0` ...; empty without masks.
        """
        mask = self.merge.mask
        if self.conflict is None or mask is None:
            return {}
        sizes, cleared = {}, {}
        for path, size, count in zip(
            self.merge.chosen_paths, mask.sizes, mask.cleared, strict=True
        ):
            block = block_of(path)
            sizes[block] = sizes.get(block, 0) + size
            cleared[block] = cleared.get(block, 0) + count
        return {
            "mask_sparsity": sum(cleared.values()) / sum(sizes.values()),
            **{f"mask_sparsity/{block}": cleared[block] / sizes[block] for block in sizes},
        }

    # --- Keras ---------------------------------------------------------------------------------

    @property
    def state_variables(self) -> dict[str, list[keras.Variable]]:
        return {**super().state_variables, "merge": self.merge.variables}

    @property
    def frozen_variables(self) -> list[keras.Variable]:
        teachers = self.teachers.image, self.teachers.text
        # Without random states: only a training pass reads them, and they differ between processes.
        return [v for teacher in teachers if teacher is not None for v in teacher.weights]

    def log_values(self) -> dict[str, float]:
        # Only a new probe: a resumed run would not know an older one.
        probed = self.probe_values() if self.probed else {}
        merged = self.merge.values() if self.conflict else {}
        return {**probed, **self.mask_sparsity(), **merged}

    def make_train_function(self, force: bool = False) -> None:
        """Makes two compiled functions, so that ordinary steps do not pay for probing."""
        if self.train_function is not None and not force:
            return
        probing_step = functools.partial(self.train_step, probing=True)
        ordinary, probing = self.train_steps(self.train_step, probing_step)

        def run_steps(iterator: Any) -> dict:
            function = probing if self.probe_requested else ordinary
            self.probed, self.refreshed = self.probe_requested, self._clears
            self.probe_requested = self._clears = False
            return function(iterator)

        self.train_function = self._counted(run_steps)

    def get_metrics_result(self) -> Tensors:
        """The means since the last reset, and the total `loss` that follows from them."""
        results = super().get_metrics_result()
        text = results["mlm_loss"] + results["nsp_loss"] if self.has_text else None
        image = results["image_loss"] if self.has_images else None
        if text is None or image is None:
            results["loss"] = image if text is None else text
        else:
            results["loss"] = self.merge.loss(text, image)
        return results
