"""What figures read from a run's folder: stored values or, without them, the last checkpoint."""

import functools
import os
import re

import numpy as np
import tensorflow as tf
from ml_collections import config_dict

from keras_vitbert.configs.merges import blocks_of, has_masks
from keras_vitbert.configs.variants import VARIANTS
from keras_vitbert.inspection.activations import MeanActivations
from keras_vitbert.inspection.mask_values import MaskValues
from keras_vitbert.inspection.value_files import read_values
from keras_vitbert.model.shared_weights import is_in_blocks
from keras_vitbert.paper_figures.fine_tuned_runs import FineTunedRun
from keras_vitbert.pretraining.data import open_data
from keras_vitbert.runs import checkpoints
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
        cache_dir: str, see `keras_vitbert.pretraining.data.open_data`.

    Raises:
        ValueError: there is no run.
    """

    def __init__(self, path, images="", texts="", cache_dir=""):
        self.path = path
        self.folder = RunFolder(path, writes=False)
        self.record = self.folder.record()
        if self.record is None or self.record.get("variant") not in VARIANTS:
            raise ValueError(
                f"--run={path}: holds no run of keras_vitbert.pretrain or finetune; give the "
                "folder of one"
            )
        self.variant = VARIANTS[self.record["variant"]]
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
        config = config_dict.ConfigDict(self.record["config"])
        config.image_batch = config.text_batch = 1  # few are enough
        if self.variant.text:
            config.data.vocabulary = os.path.join(self.path, "vocabulary.txt")
        if any(self._files.values()):
            config.data.source = "files"
        for name, given in self._files.items():
            files = config.data[name]
            files.train = files.validation = given or files.validation
        try:
            return open_data(
                config, self._cache_dir, images=self.variant.images, text=self.variant.text
            )
        except ValueError as error:
            raise Lacking(
                f"its validation data cannot be opened ({error}); name them with --images and "
                "--texts"
            ) from error

    @property
    def classes(self):
        """The names of the image classes, or their numbers where the names are unknown."""
        count = self.record["config"]["model"]["num_classes"]
        names = self.trained.classes or self.data.classes
        return names if names and len(names) == count else [f"class {n}" for n in range(count)]

    def sees(self, modality):
        """What the inputs and answers of a modality depend on; runs can be compared if it is equal.

        Args:
            modality: str, `images` or `text`.
        """
        model = self.record["config"]["model"]
        if modality == "images":
            return model["image_size"], model["num_classes"]
        return model["max_sequence_length"], self.record["vocabulary_sha256"]

    def activations(self):
        """Mean absolute activations: dict of step to (image, text), `(blocks, D)` each.

        Raises:
            Lacking: the run has one modality, or neither values nor data to measure them on.
        """
        if not (self.variant.images and self.variant.text):
            raise Lacking(f"its variant {self.record['variant']} has one modality only")
        stored = read_values(self.path, "activations", self._both)
        if stored:
            return stored
        self._require_checkpoint()
        config = config_dict.ConfigDict({**self.record["config"]})
        config.image_batch = config.text_batch = _BATCH
        stream = self.data.stream(config, images=True, text=True)
        means = MeanActivations(
            self.trained.backbone, tf.distribute.get_strategy(), self.trained.vocabulary
        )
        with reading(stream):
            values = means(stream.validation().take(-(-_EXAMPLES // _BATCH)))
        return {self.step: (values["image"], values["text"])}

    def _both(self, arrays):
        """The activations of images and of text in a file, which must belong to this model."""
        model = self.record["config"]["model"]
        shape = (model["num_layers"], model["hidden_dim"])
        found = arrays["image"], arrays["text"]
        if {values.shape for values in found} != {shape} or not np.isfinite(found).all():
            raise ValueError(f"it does not hold two arrays of {shape} finite numbers")
        return found

    def masks(self):
        """The masks after their updates: list of `MaskValues`, the steps ascending.

        Without stored masks there is one element, from the last checkpoint.

        Raises:
            Lacking: the run has no masks, or its folder holds only weights.
        """
        merge = self.record["config"]["merge"]["name"]
        if not has_masks(merge):
            variant = self.record["variant"]
            raise Lacking(f"variant {variant} with merge.name={merge} has no masks")
        if self._stored_masks:
            return self._stored_masks
        self._require_checkpoint()
        shared = self.trained.backbone.shared_variables
        masked = [v for v in shared if is_in_blocks(v.path, self._merged_blocks)]
        masks = _masks_of(self.trained.checkpoint, masked)
        return [MaskValues.of(self.trained.step, masks)]

    @property
    def _merged_blocks(self):
        """The range of blocks that have masks, or None for the whole encoder."""
        return blocks_of(self.record["config"]["merge"].get("blocks", ""))

    @functools.cached_property
    def _stored_masks(self):
        found = MaskValues.read(self.path)
        count = self.record["config"]["model"]["num_layers"]
        wanted = [f"block_{number}" for number in range(*(self._merged_blocks or (0, count)))]
        for update in found:
            blocks = [name for name in update.blocks if name.startswith("block_")]
            if blocks != wanted or update.blocks != found[0].blocks:
                raise ValueError(
                    f"{self.path}: the masks of step {update.step} in inspection are of another "
                    "model; remove that file"
                )
        return found

    def logged_sparsity(self):
        """The sparsities in metrics.csv, at the end of each epoch in which the masks changed.

        Returns:
            dict of step to a dict of a block's name to its sparsity; empty where masks are stored.
        """
        found, last = {}, None
        if self._stored_masks:
            return found
        for row in self.folder.rows(up_to_step=self.step):
            blocks = {
                name.removeprefix("mask_sparsity/"): float(value)
                for name, value in row.items()
                if re.fullmatch(r"mask_sparsity/(block_\d+|embedding_norm|final_norm)", name)
                and value
            }
            if not all(0 <= value <= 1 for value in blocks.values()):
                raise ValueError(
                    f"{self.path}/metrics.csv is damaged (a mask_sparsity at step {row['step']} is "
                    "not in [0, 1]); remove the line"
                )
            if blocks and blocks != last and any(blocks.values()):
                found[int(row["step"])] = blocks
                last = blocks
        return found

    def _require_checkpoint(self):
        if not self.step:
            raise Lacking("it has neither stored values nor a checkpoint yet")


def open_runs(paths, **options):
    """Runs by the shortest names that distinguish them.

    Args:
        paths: list of str, folders of runs of `pretrain` and `finetune`.
        options: see `FinishedRun`.

    Returns:
        dict of name to `FinishedRun` or `FineTunedRun`.

    Raises:
        ValueError: a folder holds no run, or is given twice.
    """
    parts = []
    for path in paths:
        whole = path if "://" in path else os.path.abspath(path)
        parts.append([part for part in whole.split("/") if part])
    for number, path in enumerate(paths):
        if parts[number] in parts[:number]:
            raise ValueError(f"--run={path}: is given twice; leave one out")
    names = []
    for own in parts:
        ends = (own[-depth:] for depth in range(1, len(own)))
        name = next((end for end in ends if [p[-len(end) :] for p in parts].count(end) == 1), own)
        names.append(re.sub(r"[^\w.+-]", "_", "-".join(name)))
    names = [  # `a/b` and `a-b` would have the same name
        name if names.count(name) == 1 else f"{name}-{number + 1}"
        for number, name in enumerate(names)
    ]
    return {name: _opened(path, options) for name, path in zip(names, paths, strict=True)}


def _opened(path, options):
    record = RunFolder(path, writes=False).record()
    if record is not None and "task" in record:
        return FineTunedRun(path, options.get("images", ""))
    return FinishedRun(path, **options)


def _masks_of(path, shared):
    """The masks in a checkpoint: dict of a shared variable's path to a bool array."""
    try:
        reader = tf.train.load_checkpoint(os.path.join(path, "state"))
        if not any(name.startswith("merge/") for name in reader.get_variable_to_shape_map()):
            raise Lacking("its folder holds weights only")  # of `convert --format=run`
        return {
            v.path: reader.get_tensor(
                f"merge/merge.Smask_{v.path.replace('/', '_')}/.ATTRIBUTES/VARIABLE_VALUE"
            )
            for v in shared
        }
    except (tf.errors.OpError, ValueError) as error:
        raise ValueError(f"{path} holds no masks of this model ({error}); it is damaged") from error
