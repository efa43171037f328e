"""Callbacks that look into a model during training; TensorBoard and RUN/inspection show the rest.

Put them before `Checkpoints`, so that a checkpointed step has been looked at too. Of several
workers, all look and the folder's writer writes.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_vitbert.inspection.activations import MeanActivations, co_activation
from keras_vitbert.inspection.drawing import (
    MOST_UPDATES,
    SCREEN,
    activation_figures,
    conflict_figure,
    mask_figure,
    picture,
    sparsity_table,
    spread,
    style,
)
from keras_vitbert.inspection.probes import Features, probe
from keras_vitbert.inspection.values import MASKS, MaskValues, stored_steps, write_values
from keras_vitbert.model.classifier import TEXT_INPUTS
from keras_vitbert.model.pretraining_network import image_inputs
from keras_vitbert.model.tensors import Tensor
from keras_vitbert.model.whole_batches import on_whole_batches
from pipelines.command_line import say
from pipelines.status import doing
from tpu.devices import host_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from keras_vitbert.runs.run_folder import RunFolder
    from keras_vitbert.training.joint_trainer import JointTrainer
    from pipelines.joint_stream import JointStream

# Curves of the whole encoder; those that are also in metrics.csv have its names.
GRADIENT_TAGS = {
    "text_norm": "text_gradient_norm",
    "image_norm": "image_gradient_norm",
    "cosine": "gradient_cosine",
    "norm_ratio": "gradient_norm_ratio",
    "opposite_sign": "gradient_opposite_sign",
}
_LABELS = {"image": "image_labels", "text": "next_sentence_labels"}
_MASK_WIDTH = 7.1  # inches


class FolderCallback(keras.callbacks.Callback):
    """A callback of a `JointTrainer` that writes to a run's folder."""

    def __init__(self, folder: RunFolder):
        super().__init__()
        self.folder = folder

    @property
    def trainer(self) -> JointTrainer:
        """Keras' `model`."""
        return self.model  # pyright: ignore[reportReturnType]

    def _write_figures(self, step: int, figures: dict[str, Figure]) -> None:
        """Draws figures by their tags for TensorBoard."""
        if writer := self.folder.summary_writer("train"):
            with writer.as_default(step=step):
                for tag, figure in figures.items():
                    tf.summary.image(tag, picture(figure)[None])
            writer.flush()


class PeriodicCallback(FolderCallback):
    """Acts every `interval` steps of `steps` in all, and at the end.

    With several steps per execution, in the execution that contains a multiple of `interval`.
    """

    def __init__(self, folder: RunFolder, interval: int, steps: int):
        super().__init__(folder)
        self.interval = interval
        self.steps = steps

    def _is_due(self, before: int) -> bool:
        """Whether the execution that begins after a step is one to look at."""
        after = before + self.trainer.steps_per_execution
        return after // self.interval > before // self.interval or after == self.steps


class ValidationCallback(PeriodicCallback):
    """Calls `_show` at the start, at the ends of executions to look at, and at the end.

    `examples` are images and texts each, rounded up to whole validation batches; all if there are
    fewer. Their batches are kept in memory.
    """

    def __init__(
        self, stream: JointStream, folder: RunFolder, interval: int, examples: int, steps: int
    ):
        super().__init__(folder, interval, steps)
        self.stream = stream
        self.examples = examples

    def _show(self) -> None:
        raise NotImplementedError

    def on_train_begin(self, logs: dict | None = None) -> None:
        if self.trainer.step == 0:
            self._show()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self._is_due(self.trainer.step - self.trainer.steps_per_execution):
            self._show()

    @functools.cached_property
    def _batches(self) -> list[dict]:
        """The batches of the examples, distributed by the strategy; always the same ones."""
        sizes = [
            size for size in (self.stream.image_batch_size, self.stream.text_batch_size) if size
        ]
        count = min(self.stream.validation_batches, max(-(-self.examples // n) for n in sizes))
        strategy = self.trainer.distribute_strategy
        batches = strategy.distribute_datasets_from_function(self.stream.validation)
        return list(itertools.islice(batches, count))


class ActivationMaps(ValidationCallback):
    """Shows how far the modalities share units, for fixed validation examples, without dropout.

    TensorBoard has pictures of the mean absolute activations of all blocks and of the first, the
    middle and the last one (`activations/overview`, `activations/block_0` ...), and curves of
    `activations.co_activation`, averaged over the blocks.
    RUN/inspection/activations-STEP.npz has the values: `image` and `text`, `(blocks, D)`.
    """

    def __init__(
        self,
        stream: JointStream,
        vocabulary: list[str],
        folder: RunFolder,
        interval: int,
        examples: int,
        steps: int,
    ):
        super().__init__(stream, folder, interval, examples, steps)
        self.vocabulary = vocabulary

    @functools.cached_property
    def _means(self) -> MeanActivations:
        trainer = self.trainer
        return MeanActivations(
            trainer.network.backbone, trainer.distribute_strategy, self.vocabulary
        )

    def values(self) -> dict[str, np.ndarray]:
        """The current mean absolute activations, see `MeanActivations`."""
        return self._means(self._batches)

    @doing("drawing activation maps", "drawing")
    def _show(self) -> None:
        values, step = self.values(), self.trainer.step  # on all workers
        if not self.folder.writes:
            return
        write_values(self.folder, "activations", step, **values)
        shared = co_activation(**values)
        tags = {f"co_activation/{name}": numbers.mean() for name, numbers in shared.items()}
        self.folder.log_scalars("train", step, tags)
        with style():
            self._write_figures(step, activation_figures(**values, step=step))


class FeatureProbes(ValidationCallback):
    """Probes frozen features of fixed validation examples, see `inspection.probes`.

    Every other example trains the probes, the rest test them. The labels are the images' classes,
    and whether a text's second part follows the first. TensorBoard has the accuracies as
    `probe/image_ridge`, `probe/image_neighbours`, `probe/text_ridge` and `probe/text_neighbours`,
    and RUN/inspection/probes-STEP.npz the same.
    """

    @functools.cached_property
    def _features(self) -> Callable[[dict], Any]:
        backbone, strategy = self.trainer.network.backbone, self.trainer.distribute_strategy
        return on_whole_batches(self._features_of_share, backbone, strategy)

    @doing("probing features", "probing")
    def _show(self) -> None:
        batches = [self._features(batch) for batch in self._batches]  # on all workers
        if not self.folder.writes:
            return
        measured = {}
        for modality in batches[0]:
            columns = zip(*(batch[modality] for batch in batches), strict=True)
            values, labels, weights = map(np.concatenate, columns)
            values, labels = values[weights > 0], labels[weights > 0]
            train, test = (Features(values[begin::2], labels[begin::2]) for begin in (0, 1))
            for kind, accuracy in probe(train, test).items():
                measured[f"{modality}_{kind}"] = accuracy
        write_values(self.folder, "probes", self.trainer.step, **measured)
        tags = {f"probe/{name}": accuracy for name, accuracy in measured.items()}
        self.folder.log_scalars("validation", self.trainer.step, tags)

    def _features_of_share(self, batch: dict) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """Features, labels and weights of a replica's examples, by modality."""
        backbone, features = self.trainer.network.backbone, {}
        for modality, label in _LABELS.items():
            if label not in batch:
                continue
            if modality == "image":
                outputs = backbone(image_inputs(batch), training=False, image_positions=1)
            else:
                inputs = {name: batch[name] for name in TEXT_INPUTS}
                outputs = backbone(inputs, training=False, text_positions=1)
            values = ops.cast(outputs[f"{modality}_sequence"][:, 0], "float32")
            features[modality] = values, batch[label], batch[f"{modality}_weights"]
        return features


class GradientStats(PeriodicCallback):
    """Compares both tasks' gradients in the first step of a due execution.

    TensorBoard has curves of the whole encoder, `gradient/gradient_cosine` and others, and, with
    `pictures`, a picture of the blocks, `gradient_conflict/blocks`.
    """

    _due = False

    def __init__(self, folder: RunFolder, interval: int, steps: int, pictures: bool = True):
        super().__init__(folder, interval, steps)
        self.pictures = pictures

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self._due = self._is_due(self.trainer.step)
        if self._due:
            self.trainer.request_gradient_stats()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self._due and self.folder.writes:
            self._write(self.trainer.conflict)

    @doing("writing gradients", "drawing")
    def _write(self, conflict: Any) -> None:
        step = self.trainer.step - self.trainer.steps_per_execution + 1
        values = conflict.values()
        tags = {f"gradient/{tag}": values["all"][name] for name, tag in GRADIENT_TAGS.items()}
        self.folder.log_scalars("train", step, tags)
        if not self.pictures:
            return
        with style():
            self._write_figures(step, {"gradient_conflict/blocks": conflict_figure(values, step)})


class MaskPictures(FolderCallback):
    """Shows the masks after every update: a table of sparsities, and pictures of three blocks.

    At the step that made the update, TensorBoard has `masks/sparsity`, and `masks/block_0` ... for
    the first, the middle and the last block, with a row for each update so far. The values are in
    RUN/inspection, see `values`; those of earlier updates are read from there.
    """

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self.trainer.refreshed:
            self._show()

    @doing("drawing the masks", "drawing")
    def _show(self) -> None:
        merge: Any = self.trainer.merge
        masks = zip(merge.chosen_paths, merge.mask.masks, strict=True)
        masks = {path: host_values(mask) for path, mask in masks}  # on all workers
        if not self.folder.writes:
            return
        step = self.trainer.step - self.trainer.steps_per_execution + 1
        values = MaskValues.from_masks(step, masks)
        values.write(self.folder)
        steps = [old for old in stored_steps(self.folder.path, MASKS) if old <= step]
        updates = MaskValues.read(self.folder.path, spread(steps, MOST_UPDATES))
        with style():
            self._write_figures(step, mask_figures(updates, len(steps)))


def mask_figures(updates: list[MaskValues], count: int) -> dict[str, Figure]:
    """TensorBoard's figures of the last of some updates, of `count` updates in all, by tag."""
    return {
        "masks/sparsity": sparsity_table(updates[-1]),
        **{
            f"masks/{block}": mask_figure(updates, [block], _MASK_WIDTH, SCREEN, count=count)
            for block in updates[-1].kept
        },
    }


class Profile(FolderCallback, contextlib.AbstractContextManager):
    """Traces the steps from `first` to `last`, counted from 1, both included.

    The trace is in RUN/train/plugins/profile. An execution of several steps is traced if it
    contains such a step. A run that resumes between them traces the rest; one that resumes after
    them traces nothing and says so. Use it as a context, so that the trace is written even if
    training fails.
    """

    def __init__(self, first: int, last: int, folder: RunFolder):
        super().__init__(folder)
        self.first = first
        self.last = last
        self._tracing = self._begun = False
        self._mark = None

    def __exit__(self, *exception: object) -> None:
        self._stop()

    def on_train_begin(self, logs: dict | None = None) -> None:
        if self.folder.writes and self.trainer.step >= self.last and not self._begun:
            say(
                f"the run is already at step {self.trainer.step}: no profile of steps "
                f"{self.first} to {self.last}"
            )
        self._begun = True  # after a divergence, `fit` begins again

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        before, executed = self.trainer.step, self.trainer.steps_per_execution
        if not (self.folder.writes and before < self.last and before + executed >= self.first):
            return
        if not self._tracing:
            tf.profiler.experimental.start(self.folder.file("train"))
            self._tracing = True
        self._mark = tf.profiler.experimental.Trace("train", step_num=before + 1, _r=1)
        self._mark.__enter__()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self._mark is not None:
            self._mark.__exit__(None, None, None)
            self._mark = None
        if self.trainer.step >= self.last:
            self._stop()

    def _stop(self) -> None:
        if self._tracing:
            self._tracing = False
            tf.profiler.experimental.stop()
