"""The joint step: the losses of one modality or two, one merge, one clip, one update."""

import dataclasses
import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_vitbert.merging import Merge
from keras_vitbert.model.pretraining_network import BackboneNetwork
from keras_vitbert.model.shared_weights import block_of
from keras_vitbert.model.tensors import Tensor, Tensors, ops
from keras_vitbert.training.backends import backend
from keras_vitbert.training.base_trainer import BaseTrainer
from keras_vitbert.training.distillation import Teachers
from keras_vitbert.training.gradient_conflict import ALL, GradientConflict


@dataclasses.dataclass(frozen=True)
class Head:
    """A head, and the loss of its logits."""

    name: str  # `image`, `text`, `mlm` or `nsp`; its logits are `NAME_logits`
    labels: str  # the name of its labels in a batch
    # Maps labels, logits and a teacher's logits, or None, to the loss of each label.
    loss: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    metrics: str  # what precedes `loss` and `accuracy` in the names of its metrics
    weights: str = ""  # the name of its labels' weights in a batch; all are 1 if empty


@dataclasses.dataclass(frozen=True)
class Modality:
    """A forward pass of the step, and the heads whose losses it adds."""

    name: str  # `text` or `image`
    place: int  # distinguishes its dropout from that of the other pass
    inputs: Callable[[Tensors], Tensors]  # picks them from a batch
    network: Callable[..., Tensors]  # maps them, and `training`, to logits by name
    heads: tuple[Head, ...]  # the labels of the last are one for each example


class MultiTaskTrainer(BaseTrainer):
    """Trains a network on one modality, or on text and images at once.

    A batch has the inputs of all modalities, and the labels of their heads. Of mixed images it has
    `image_mix_labels` and `image_mix_weights`, see `pipelines.images.image_views.mix`; with image
    layers, training takes `image_numbers` `(images, 2)`. `image_weights` and `text_weights` may
    mark padding with 0, so that every example counts once.

    Args:
        network: with one modality only, its loss is the whole loss.
        modalities: one, or text and image in this order.
        merge: of the gradients of two modalities; None with one.
        teachers: what `Head.loss` gets of them.
        options: those of `BaseTrainer`.

    Attributes:
        conflict: the last probing step's results; None with one modality.
        refreshed: whether the last execution began with an update of the masks.
    """

    curves = ("mask_sparsity", "merge/text_weight", "merge/image_weight", "merge/cosine")

    def __init__(
        self,
        network: BackboneNetwork,
        modalities: Sequence[Modality],
        merge: Merge | None = None,
        teachers: Teachers | None = None,
        **options: Any,
    ):
        super().__init__(network, **options)
        self.modalities = tuple(modalities)
        self.merge: Any = merge
        self.teachers = teachers or Teachers()
        self.conflict: GradientConflict | None = None
        if merge is not None and len(self.modalities) == 2:
            shared = network.backbone.shared_variables
            self.conflict = GradientConflict(shared)
            merge.make_state(shared)
        self.means = {
            name: keras.metrics.Mean(name)
            for modality in reversed(self.modalities)
            for head in modality.heads
            for name in (f"{head.metrics}loss", f"{head.metrics}accuracy")
        }
        # How many entries the next probing step clears, see `request_gradient_stats`.
        mask = merge.mask if self.conflict and merge is not None else None
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
        batch = self.augment(batch)
        totals = self._totals(batch)

        def loss_of(modality: Modality, batch: Tensors, part: Tensor, taught: Tensors) -> tuple:
            with keras.name_scope(modality.name):
                inputs = modality.inputs(batch)
                logits = self.forward(modality.network, inputs, step, modality.place, part)  # 1-6
                return self._loss(modality, batch, logits, taught, totals)  # eq. 7

        def gradients_of(batch: Tensors, part: Tensor) -> tuple:
            gradients, losses, measured, taught = [], [], {}, self.teachers(batch)
            for modality in self.modalities:
                if self.in_turn:  # saves memory
                    batch = backend.delay(batch, gradients)
                one_loss = functools.partial(loss_of, modality, batch, part, taught)
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
        """Losses and accuracies of this replica's share, without teachers and dropout."""

        def measure(batch: Tensors, part: Tensor) -> tuple:
            measured = {}
            for modality in self.modalities:
                logits = modality.network(modality.inputs(batch), training=False)
                measured |= self._loss(modality, batch, logits, {})[1]
            return [], [], measured

        self.record(self.sum_micro_batches(measure, batch)[2])
        return self.get_metrics_result()

    # --- losses --------------------------------------------------------------------------------

    def _weights(self, modality: Modality, batch: Tensors) -> Tensors:
        """The weight of each example of a head, or of each masked token for masked-LM."""
        ones = ops.ones_like(batch[modality.heads[-1].labels], "float32")
        rows = batch.get(f"{modality.name}_weights", ones)
        return {
            head.name: batch[head.weights] * rows[:, None] if head.weights else rows
            for head in modality.heads
        }

    def _totals(self, batch: Tensors) -> Tensors:
        """The sum of each head's weights over all replicas."""
        sums = {
            head: ops.sum(weights)
            for modality in self.modalities
            for head, weights in self._weights(modality, batch).items()
        }
        return {head: ops.maximum(total, 1.0) for head, total in backend.all_reduce(sums).items()}

    def _loss(
        self,
        modality: Modality,
        batch: Tensors,
        logits: Tensors,
        taught: Tensors,
        totals: Tensors | None = None,
    ) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        """This batch's share of the sum of a modality's weighted mean losses (eq. 7).

        Of pre-training on text this is `L_text = L_mlm + L_nsp`. The shares of all replicas, and of
        all micro-batches, sum to the means, however the weights are distributed, so that summed
        gradients are those of one large batch. This needs `totals`; without it the share is 0. Also
        returns the metrics' values and weights, see `sum_micro_batches`.
        """
        share: Tensor = 0.0
        weights, measured = self._weights(modality, batch), {}
        for head in modality.heads:
            labels, student = batch[head.labels], logits[f"{head.name}_logits"]
            teacher = taught.get(f"{head.name}_logits")
            losses = head.loss(labels, student, teacher)
            if f"{head.name}_mix_labels" in batch:  # of mixed images
                weight, second = batch[f"{head.name}_mix_weights"], batch[f"{head.name}_mix_labels"]
                losses = weight * losses + (1 - weight) * head.loss(second, student, teacher)
            correct = ops.cast(ops.equal(ops.argmax(student, axis=-1), labels), "float32")
            measured |= {
                f"{head.metrics}loss": (losses, weights[head.name]),
                f"{head.metrics}accuracy": (correct, weights[head.name]),
            }
            if totals is not None:
                share += ops.sum(losses * weights[head.name]) / totals[head.name]
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
        if self.conflict is None or self.merge.mask is None:
            return {}
        mask = self.merge.mask
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
        merge = {} if self.merge is None else {"merge": self.merge.variables}
        return {**super().state_variables, **merge}

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
        losses = [
            functools.reduce(operator.add, (results[f"{h.metrics}loss"] for h in modality.heads))
            for modality in self.modalities
        ]
        results["loss"] = losses[0] if self.conflict is None else self.merge.loss(*losses)
        return results
