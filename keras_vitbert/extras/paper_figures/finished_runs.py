"""What figures read from a run's folder: stored values or, without them, the last checkpoint."""

import functools
import os
import re

import tensorflow as tf

from keras_vitbert.configs.merges import blocks_of, has_masks
from keras_vitbert.experiments.pretraining.data import open_data
from keras_vitbert.extras.paper_figures.fine_tuned_runs import FineTunedRun
from keras_vitbert.inspection.activations import MeanActivations
from keras_vitbert.inspection.mask_values import MaskValues
from keras_vitbert.inspection.value_files import read_values
from keras_vitbert.model.shared_weights import is_in_blocks
from keras_vitbert.runs import checkpoints
from keras_vitbert.runs.identity import config_of
from keras_vitbert.runs.record_errors import reading
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.trained.loading import load

_EXAMPLES, _BATCH = 64, 16  # of activations that are measured here


class Lacking(ValueError):
    """A run lacks what a figure shows; other runs may have it."""


class FinishedRun:
    """The folder of a run of `pretrain`; costly values are read once, on demand.

    Args:
        path: str, local or `gs://`.
        images, texts: str, validation files in place of the run's own.
        cache_dir: str, see `keras_vitbert.experiments.pretraining.data.open_data`.

    Raises:
        ValueError: there is no run.
    """

    def __init__(self, path, images="", texts="", cache_dir=""):
        self.path = path
        self.folder = RunFolder(path, writes=False)
        self.record = self.folder.record()
        if self.record is None or "variant" not in self.record["experiment"]:
            raise ValueError(f"{path}: holds no run of pretrain or finetune")
        self.config = config_of(self.record)
        self.variant = self.config.parts
        self._files = {"images": images, "text": texts}
        self._cache_dir = cache_dir

    @functools.cached_property
    def trained(self):
        """The `TrainedModel` of the last checkpoint, in float32."""
        return load(self.path)

    @functools.cached_property
    def summary(self):
        """The content of `summary.json`; empty while the run is not finished."""
        return self.folder.summary() or {}

    @functools.cached_property
    def step(self):
        """The step of the last checkpoint; 0 where there is none."""
        return checkpoints.latest(self.folder.checkpoints)[1]

    @functools.cached_property
    def data(self):
        """The validation examples of the run as `Data`; its training examples are the same.

        Raises:
            Lacking: they no longer exist, or do not fit the model.
        """
        values = {"image_batch": 2, "text_batch": 1}  # few are enough
        if self.variant.text:
            values["data.vocabulary"] = os.path.join(self.path, "vocabulary.txt")
        if any(self._files.values()):
            values["data.source"] = "files"
        for name, given in self._files.items():
            pattern = given or self.config.value(f"data.{name}.validation")
            values |= {f"data.{name}.{split}": pattern for split in ("train", "validation")}
        try:
            return open_data(self.config.with_values(values), self._cache_dir)
        except ValueError as error:
            raise Lacking(
                f"its validation data cannot be opened ({error}); name others by images and texts"
            ) from error

    @property
    def classes(self):
        """The names of the image classes, or their numbers where the names are unknown."""
        count = self.record["experiment"]["model"]["num_classes"]
        names = self.trained.classes or self.data.classes
        return names if names and len(names) == count else [f"class {n}" for n in range(count)]

    def sees(self, modality):
        """What the inputs and answers of a modality depend on; runs can be compared if it is equal.

        Args:
            modality: str, `images` or `text`.
        """
        model = self.record["experiment"]["model"]
        if modality == "images":
            return model["image_size"], model["num_classes"]
        return model["max_sequence_length"], self.record["inputs"].get("vocabulary")

    def activations(self):
        """Mean absolute activations: dict of step to (image, text), `(blocks, D)` each.

        Raises:
            Lacking: the run has one modality, or neither values nor data to measure them on.
        """
        if not (self.variant.images and self.variant.text):
            raise Lacking(f"its variant {self.variant.name} has one modality only")
        if stored := read_values(self.path, "activations"):
            return {step: (found["image"], found["text"]) for step, found in stored.items()}
        self._require_checkpoint()
        config = self.config.with_values({"image_batch": _BATCH, "text_batch": _BATCH})
        stream = self.data.stream(config)
        means = MeanActivations(
            self.trained.backbone, tf.distribute.get_strategy(), self.trained.vocabulary
        )
        with reading(stream):
            values = means(stream.validation().take(-(-_EXAMPLES // _BATCH)))
        return {self.step: (values["image"], values["text"])}

    def masks(self):
        """The masks after their updates: list of `MaskValues`, the steps ascending.

        Without stored masks there is one element, from the last checkpoint.

        Raises:
            Lacking: the run has no masks, or its folder holds only weights.
        """
        merge = self.record["experiment"]["merge"]["name"]
        if not has_masks(merge):
            raise Lacking(f"variant {self.variant.name} with merge.name={merge} has no masks")
        if stored := MaskValues.read(self.path):
            return stored
        self._require_checkpoint()
        shared = self.trained.backbone.shared_variables
        blocks = blocks_of(self.config.merge.blocks)
        masked = [v for v in shared if is_in_blocks(v.path, blocks)]
        masks = _masks_of(self.trained.checkpoint, masked)
        return [MaskValues.of(self.trained.step, masks)]

    def _require_checkpoint(self):
        if not self.step:
            raise Lacking("it has neither stored values nor a checkpoint yet")


def open_runs(paths: list[str], **options) -> dict:
    """Runs of `pretrain` and `finetune` by the part of their paths that distinguishes them.

    Args:
        paths: their folders.
        options: see `FinishedRun`.

    Returns:
        name to `FinishedRun` or `FineTunedRun`.

    Raises:
        ValueError: a folder holds no run, or two have one name.
    """
    whole = [path if "://" in path else os.path.abspath(path) for path in paths]
    parts = [path.rstrip("/").split("/") for path in whole]
    shared = len(os.path.commonprefix([own[:-1] for own in parts]))
    if len({own[-1] for own in parts}) == len(parts):
        shared = -1  # their last part is enough
    names = [re.sub(r"[^\w.+-]", "_", "-".join(own[shared:])) for own in parts]
    if len(set(names)) < len(names):
        raise ValueError(f"runs of the same name: {', '.join(names)}")
    return {name: _opened(path, options) for name, path in zip(names, paths, strict=True)}


def _opened(path, options):
    record = RunFolder(path, writes=False).record()
    if record is not None and "task" in record["experiment"]:
        return FineTunedRun(path, options.get("images", ""))
    return FinishedRun(path, **options)


def _masks_of(path, shared):
    """The masks in a checkpoint: dict of a shared variable's path to a bool array."""
    reader = tf.train.load_checkpoint(os.path.join(path, "state"))
    if not any(name.startswith("merge/") for name in reader.get_variable_to_shape_map()):
        raise Lacking("its folder holds weights only")  # of a run that was written for sharing
    return {
        v.path: reader.get_tensor(
            f"merge/merge.Smask_{v.path.replace('/', '_')}/.ATTRIBUTES/VARIABLE_VALUE"
        )
        for v in shared
    }
