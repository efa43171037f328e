"""The joint step: two losses, one merge, one sum over the replicas, one clip, one update."""

import functools
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_vitbert.model.pretraining_network import image_inputs, text_inputs
from keras_vitbert.model.shared_weights import block_of
from keras_vitbert.training.backends import backend
from keras_vitbert.training.base_trainer import BaseTrainer
from keras_vitbert.training.distillation import Teachers
from keras_vitbert.training.gradient_conflict import ALL, GradientConflict
from keras_vitbert.training.losses import distillation_loss


class JointTrainer(BaseTrainer):
    """Pre-trains a network on images and text, for `compile`, `fit` and `evaluate`.

    Args:
        network: a `PreTrainingNetwork`. With one modality only, its loss is the whole loss.
        merge: `keras_vitbert.merging.Merge`, used with both modalities.
        teachers: a `Teachers`; required if `distillation_ratio` is above 0.
        distillation_ratio: float in [0, 1], `a` of eq. 7.
        temperature: float >= 0, `T` of eq. 7.
        clip_norm: float, the global norm that the merged gradient is clipped to.
        gradient_histograms: bool, whether probing steps make histograms of both gradients.

    Attributes:
        conflict: `GradientConflict` with the last probing step's results; None with one modality.
        refreshed: bool, whether the last execution began with an update of the masks.

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
        network,
        merge,
        teachers=None,
        distillation_ratio=0.0,
        temperature=1.0,
        clip_norm=1.0,
        gradient_histograms=False,
        **kwargs,
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
            self.conflict = GradientConflict(self.shared, gradient_histograms)
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

    def train_step(self, batch: dict, probing: bool = False) -> dict:
        """One joint update; the equation numbers are the paper's.

        Args:
            batch: this replica's share; see the class.
            probing: whether to run Algorithm 1 and to compare both gradients on the shared encoder,
                summed over the replicas.
        """
        step = ops.convert_to_tensor(self.optimizer.iterations.value)
        variables = self.network.trainable_variables
        batch = self.augmented(batch, "image_numbers")
        totals = self._totals(batch)

        def text_loss(batch, part, taught):
            with keras.name_scope("text"):
                logits = self.forward(text_inputs(batch), step, 0, part)  # eq. 2 to 6
                return self._text_loss(batch, logits, taught, totals)  # eq. 7

        def image_loss(batch, part, taught):
            with keras.name_scope("image"):
                logits = self.forward(image_inputs(batch), step, 1, part)  # eq. 1 and 3 to 6
                return self._image_loss(batch, logits, taught, totals)  # eq. 7

        losses_of = [text_loss] * self.has_text + [image_loss] * self.has_images

        def gradients_of(batch, part):
            gradients, losses, measured, taught = [], [], {}, self.teachers(batch)
            for loss_of in losses_of:
                if self.in_turn:  # saves memory
                    batch = backend.after(batch, gradients)
                one_loss = functools.partial(loss_of, batch, part, taught)
                gradient, loss, values = backend.gradients(one_loss, variables)
                gradients.append(gradient)
                losses.append(loss)
                measured |= values
            return gradients, losses, measured

        gradients, losses, measured = self.over_micro_batches(gradients_of, batch)
        if self.conflict is None:
            *gradients, loss = backend.summed([*gradients[0], *losses])
            logs = self.update(gradients, loss, measured)[1]
        else:
            clear = ops.convert_to_tensor(self.clear_counts.value) if probing else None
            text, image = gradients
            with keras.name_scope("merge"):  # Algorithm 1, eq. 8 or 9, one sum over the replicas
                merged = self.merge.merge(text, image, losses, step, clear, backend.summed)
            good, logs = self.update(merged.gradients, merged.loss, measured)  # clip and update
            self.merge.keep(merged.state, good)
            again = functools.partial(
                self.over_micro_batches, gradients_of, batch
            )  # its gradients are idle
            self.merge.after(merged.losses, lambda: backend.summed(again()[1]), good)
            if probing:
                text, image = merged.both
                self.conflict.measure(text, image, good)
        return {**self.get_metrics_result(), **logs}

    def test_step(self, batch):
        """Cross-entropies and accuracies of a batch, without teachers and dropout.

        Args:
            batch: dict, this replica's share; see the class.

        Returns:
            dict of name to scalar tensor.
        """

        def measure(batch, part):
            measured = {}
            if self.has_text:
                logits = self.network(text_inputs(batch), training=False)
                measured |= self._text_loss(batch, logits, {})[1]
            if self.has_images:
                logits = self.network(image_inputs(batch), training=False)
                measured |= self._image_loss(batch, logits, {})[1]
            return [], [], measured

        self.record(self.over_micro_batches(measure, batch)[2])
        return self.get_metrics_result()

    # --- losses --------------------------------------------------------------------------------

    def _weights(self, batch):
        """The weight of each example of a task, or of each masked token for masked-LM: dict."""
        weights = {}
        if self.has_text:
            rows = ops.ones_like(batch["next_sentence_labels"], "float32")
            rows = batch.get("text_weights", rows)
            weights |= {"mlm": batch["masked_weights"] * rows[:, None], "nsp": rows}
        if self.has_images:
            ones = ops.ones_like(batch["image_labels"], "float32")
            weights["image"] = batch.get("image_weights", ones)
        return weights

    def _totals(self, batch):
        """The sum of a task's weights over all replicas: dict of scalar tensors."""
        sums = {task: ops.sum(weights) for task, weights in self._weights(batch).items()}
        return {task: ops.maximum(total, 1.0) for task, total in backend.summed(sums).items()}

    def _image_loss(self, batch, logits, teacher_logits, totals=None):
        mix = None
        if "image_mix_labels" in batch:
            mix = batch["image_mix_labels"], batch["image_mix_weights"]
        return self._loss(batch, {"image": "image_labels"}, logits, teacher_logits, totals, mix)

    def _text_loss(self, batch, logits, teacher_logits, totals=None):
        """`L_text = L_mlm + L_nsp`."""
        labels = {"mlm": "masked_ids", "nsp": "next_sentence_labels"}
        return self._loss(batch, labels, logits, teacher_logits, totals)

    def _loss(self, batch, labels, logits, teacher_logits, totals, mix=None):
        """This batch's share of the sum of some tasks' weighted mean losses (eq. 7).

        The shares of all replicas, and of all parts of their batches, sum to the means, however the
        weights are distributed, so that summed gradients are those of one large batch. This needs
        `totals`; without it the share is 0. `mix` holds second labels and the weights of the first
        ones. Also returns the metrics' values and weights, see `over_micro_batches`.
        """
        share: Any = 0.0
        weights, measured = self._weights(batch), {}
        for task, name in labels.items():
            of_task, teacher = logits[f"{task}_logits"], teacher_logits.get(f"{task}_logits")
            ratio = 0.0 if teacher is None else self.distillation_ratio

            def loss(labels, of_task=of_task, teacher=teacher, ratio=ratio):
                return distillation_loss(labels, of_task, teacher, ratio, self.temperature)

            losses = loss(batch[name])
            if mix is not None:
                losses = mix[1] * losses + (1 - mix[1]) * loss(mix[0])
            correct = ops.equal(ops.argmax(of_task, axis=-1), batch[name])
            correct = ops.cast(correct, "float32")
            measured |= {
                f"{task}_loss": (losses, weights[task]),
                f"{task}_accuracy": (correct, weights[task]),
            }
            if totals is not None:
                share += ops.sum(losses * weights[task]) / totals[task]
        return share, measured

    # --- probing -------------------------------------------------------------------------------

    def request_gradient_stats(self, clear=0):
        """Makes the next training step a probing step; does nothing with one modality.

        A probing step records `conflict` and, if `clear` is above 0, runs one update of Algorithm 1
        before it merges. It costs one more sum of both gradients over the replicas.

        Args:
            clear: int, entries of the mask to clear; or int array, see `GradientMask.counts`.
        """
        if self.has_text and self.has_images:
            clears = bool(np.any(clear))
            if clears or not self.probe_requested:
                shape = self.clear_counts.shape
                self.clear_counts.assign(np.broadcast_to(clear, shape).astype(np.int32))
                self._clears = clears
            self.probe_requested = True

    def probe_values(self):
        """The last probing step's results: dict of name to float; empty with one modality."""
        if self.conflict is None:
            return {}
        found = self.conflict.values()[ALL]
        return {
            "text_gradient_norm": found["text_norm"],
            "image_gradient_norm": found["image_norm"],
            "gradient_cosine": found["cosine"],
        }

    def mask_sparsity(self):
        """The fraction of cleared mask entries, overall and of each block.

        With several processes, all of them must call this.

        Returns:
            dict with `mask_sparsity` and `mask_sparsity/block_0` ...; empty without masks.
        """
        if not (self.has_text and self.has_images and self.merge.mask):
            return {}
        mask, sizes, cleared = self.merge.mask, {}, {}
        of_each = zip(self.merge.chosen_paths, mask.sizes, mask.cleared_of_each, strict=True)
        for path, size, count in of_each:
            block = block_of(path)
            sizes[block] = sizes.get(block, 0) + size
            cleared[block] = cleared.get(block, 0) + count
        return {
            "mask_sparsity": sum(cleared.values()) / sum(sizes.values()),
            **{f"mask_sparsity/{block}": cleared[block] / sizes[block] for block in sizes},
        }

    # --- Keras ---------------------------------------------------------------------------------

    @property
    def state_variables(self):
        return {**super().state_variables, "merge": self.merge.variables}

    @property
    def frozen_variables(self):
        teachers = self.teachers.image, self.teachers.text
        # Without random states: only a training pass reads them, and they differ between processes.
        return [v for teacher in teachers if teacher is not None for v in teacher.weights]

    def log_values(self):
        # Only a new probe: a resumed run would not know an older one.
        probed = self.probe_values() if self.probed else {}
        merged = self.merge.values() if self.conflict else {}
        return {**probed, **self.mask_sparsity(), **merged}

    def make_train_function(self, force=False):
        """Makes two compiled functions, so that ordinary steps do not pay for probing."""
        if self.train_function is not None and not force:
            return
        probing_step = functools.partial(self.train_step, probing=True)
        ordinary, probing = self.train_steps(self.train_step, probing_step)

        def run_steps(iterator):
            function = probing if self.probe_requested else ordinary
            self.probed, self.refreshed = self.probe_requested, self._clears
            self.probe_requested = self._clears = False
            return function(iterator)

        self.train_function = self._counted(run_steps)

    def get_metrics_result(self):
        """The means since the last reset, and the total `loss` that follows from them."""
        results = super().get_metrics_result()
        text = results["mlm_loss"] + results["nsp_loss"] if self.has_text else None
        image = results["image_loss"] if self.has_images else None
        if text is None or image is None:
            results["loss"] = image if text is None else text
        else:
            results["loss"] = self.merge.loss(text, image)
        return results
