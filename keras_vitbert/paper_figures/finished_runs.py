"""What figures take from the folder of a run: stored values first, else the last checkpoint."""

import functools
import os
import re

import tensorflow as tf
from ml_collections import config_dict

from keras_vitbert.configs.variants import VARIANTS
from keras_vitbert.inspection.activations import MeanActivations
from keras_vitbert.inspection.mask_values import MaskValues
from keras_vitbert.inspection.value_files import read_values
from keras_vitbert.pretraining.data import open_data
from keras_vitbert.runs import checkpoints
from keras_vitbert.runs.record_errors import reading
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.trained.loading import load
from pipelines.command_line import UserError
from pipelines.text.wordpiece import read_vocabulary

_EXAMPLES, _BATCH = 64, 16  # of activations that are measured here


class Lacking(UserError):
    """A run has not what a figure shows; there may be others that have it."""


class FinishedRun:
    """The folder of a run of `pretrain`; what is costly is read once, when it is asked for.

    Args:
        path: str, local or `gs://`.
        images, texts: str, validation files in place of those that the run was made with.
        cache_dir: str, see `keras_vitbert.pretraining.data.open_data`.

    Raises:
        UserError: there is no run.
    """

    def __init__(self, path, images="", texts="", cache_dir=""):
        self.path = path
        self.folder = RunFolder(path, writes=False)
        self.record = self.folder.record()
        if self.record is None or self.record.get("variant") not in VARIANTS:
            raise UserError(
                f"--run={path}: holds no run of keras_vitbert.pretrain; give the folder of one"
            )
        self.variant = VARIANTS[self.record["variant"]]
        self._files = {"images": images, "text": texts}
        self._cache_dir = cache_dir

    @functools.cached_property
    def network(self):
        """The network of the last checkpoint, in float32."""
        return load(self.path).network

    @functools.cached_property
    def step(self):
        """The step of the last checkpoint; 0 where there is none."""
        return checkpoints.latest(self.folder.checkpoints)[1]

    @functools.cached_property
    def vocabulary(self):
        """List of str, or None for a run without text."""
        if not self.variant.text:
            return None
        return read_vocabulary(os.path.join(self.path, "vocabulary.txt"))

    @functools.cached_property
    def data(self):
        """The validation examples of the run as `Data`; its training examples are the same.

        Raises:
            Lacking: they are not there any more, or do not fit.
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
        except UserError as error:
            raise Lacking(
                f"its validation data cannot be opened ({error}); name them by --images and --texts"
            ) from error

    @property
    def classes(self):
        """The names of the image classes, or their numbers where nothing tells the names."""
        count = self.record["config"]["model"]["num_classes"]
        text = self.folder.read("classes.txt")
        names = text.splitlines() if text is not None else self.data.classes
        return names if names and len(names) == count else [f"class {n}" for n in range(count)]

    def sees(self, modality):
        """What inputs and answers of a modality depend on; equal where runs can be compared.

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
        stored = read_values(self.path, "activations")
        if stored:
            return {step: (a["image"], a["text"]) for step, a in stored.items()}
        self._require_checkpoint()
        return {self.step: self._measured()}

    def masks(self):
        """The masks after their updates: list of `MaskValues`, the steps ascending.

        Where none are stored there is one, of the last checkpoint.

        Raises:
            Lacking: the run has no masks.
        """
        if self.record["config"]["merge"]["name"] == "sum":
            raise Lacking(f"its variant {self.record['variant']} has no masks")
        stored = MaskValues.read(self.path)
        if stored:
            return stored
        self._require_checkpoint()
        path, step = checkpoints.latest(self.folder.checkpoints)
        masks = _masks_of(path, self.network.backbone.shared_variables)
        return [MaskValues.of(step, masks)]

    @functools.cached_property
    def has_stored_masks(self):
        """Whether the masks of every update are there."""
        return bool(MaskValues.read(self.path))

    def logged_sparsity(self):
        """What metrics.csv tells of the masks, at the end of each epoch in which they changed.

        Returns:
            dict of step to a dict of a block's name to its sparsity.
        """
        found, last = {}, None
        for row in self.folder.rows(up_to_step=self.step):
            blocks = {
                name.removeprefix("mask_sparsity/"): float(value)
                for name, value in row.items()
                if re.fullmatch(r"mask_sparsity/(block_\d+|final_norm)", name) and value
            }
            if blocks and blocks != last and any(blocks.values()):
                found[int(row["step"])] = blocks
                last = blocks
        return found

    def _require_checkpoint(self):
        if not self.step:
            raise Lacking("it has neither stored values nor a checkpoint yet")

    def _measured(self):
        """The mean activations of the last checkpoint: (image, text)."""
        config = config_dict.ConfigDict({**self.record["config"]})
        config.image_batch = config.text_batch = _BATCH
        stream = self.data.stream(config, images=True, text=True)
        means = MeanActivations(
            self.network.backbone, tf.distribute.get_strategy(), self.vocabulary
        )
        with reading(stream):
            values = means(stream.validation().take(-(-_EXAMPLES // _BATCH)))
        return values["image"], values["text"]


def open_runs(paths, **options):
    """Runs by the shortest names that tell them apart.

    Args:
        paths: list of str.
        options: see `FinishedRun`.

    Returns:
        dict of name to `FinishedRun`.

    Raises:
        UserError: there is no run, or it is given twice.
    """
    parts = [_parts(path) for path in paths]
    for number, path in enumerate(paths):
        if parts[number] in parts[:number]:
            raise UserError(f"--run={path}: is given twice; leave one out")
    names = []
    for own in parts:
        others = [other for other in parts if other != own]
        depths = range(1, len(own) + 1)
        depth = next(d for d in depths if own[-d:] not in [other[-d:] for other in others])
        names.append(re.sub(r"[^\w.+-]", "_", "-".join(own[-depth:])))
    names = [  # `a/b` and `a-b` would have the same
        name if names.count(name) == 1 else f"{name}-{number + 1}"
        for number, name in enumerate(names)
    ]
    return {name: FinishedRun(path, **options) for name, path in zip(names, paths, strict=True)}


def _parts(path):
    if "://" not in path:
        path = os.path.abspath(path)
    return tuple(part for part in path.split("/") if part)


def _masks_of(path, shared):
    """The masks in a checkpoint: dict of a shared variable's path to a boolean array."""
    try:
        reader = tf.train.load_checkpoint(os.path.join(path, "state"))
        return {
            v.path: reader.get_tensor(
                f"merge/merge.Smask_{v.path.replace('/', '_')}/.ATTRIBUTES/VARIABLE_VALUE"
            )
            for v in shared
        }
    except (tf.errors.OpError, ValueError) as error:
        raise UserError(f"{path} holds no masks of this model ({error}); it is damaged") from error
