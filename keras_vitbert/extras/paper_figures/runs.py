"""What figures read from folders of runs, of `pretrain` and of `finetune`."""

import csv
import functools
import os
import re
from collections.abc import Hashable
from typing import Any

import numpy as np

from keras_vitbert.configs.fine_tuning import dotted
from keras_vitbert.configs.merges import has_masks
from keras_vitbert.experiments.fine_tuning.predictions import predictions_file
from keras_vitbert.experiments.fine_tuning.task_data import open_task
from keras_vitbert.experiments.fine_tuning.tasks import TASKS
from keras_vitbert.experiments.pretraining.data import Data, open_data
from keras_vitbert.inspection.values import MaskValues, read_values
from keras_vitbert.runs import checkpoints
from keras_vitbert.runs.identity import config_of
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.trained.loading import load
from keras_vitbert.trained.trained_model import TrainedModel
from pipelines.text_tables import csv_reader

_FLAGS = {"images": "--images", "text": "--texts"}
_STORES = "pretrain stores them with --config.inspection"


class Lacking(ValueError):
    """A run lacks what a figure shows; other runs may have it."""


class PretrainedRun:
    """The folder of a run of `pretrain`; costly values are read once, on demand.

    `images` and `texts` are validation files in place of the run's own. The `summary` is empty
    while the run is not finished.
    """

    split = "validation"  # that Figure 6 shows examples of

    def __init__(self, path: str, images: str = "", texts: str = "", cache_dir: str = ""):
        self.path = path
        self.folder = RunFolder(path, writes=False)
        record = self.folder.record()
        if record is None or "variant" not in record["experiment"]:
            raise ValueError(f"{path}: holds no run of pretrain or finetune")
        self.record = record
        self.summary = self.folder.summary() or {}
        self.config = config_of(record)
        self.variant = self.config.variant_spec
        self._files = {"images": images, "text": texts}
        self._cache_dir = cache_dir

    @functools.cached_property
    def trained(self) -> TrainedModel:
        """The model of the last checkpoint, in float32."""
        return load(self.path)

    @functools.cached_property
    def step(self) -> int:
        """The step of the last checkpoint; 0 where there is none."""
        return checkpoints.latest(self.folder.checkpoints)[1]

    @functools.cached_property
    def data(self) -> Data:
        """The validation examples of the run; its training examples are the same."""
        # Few at a time are enough.
        values: dict[str, Any] = {"image_batch_size": 2, "text_batch_size": 1}
        if self.variant.text:
            values["data.vocabulary"] = os.path.join(self.path, "vocabulary.txt")
        if any(self._files.values()):
            values["data.source"] = "files"
        for name, given in self._files.items():
            pattern = given or self.config.value(f"data.{name}.validation")
            values |= {f"data.{name}.{split}": pattern for split in ("train", "validation")}
            own = self.config.with_values(values).data.source == "files"
            if own and not pattern and getattr(self.variant, name):
                raise Lacking(f"its validation data are unknown; give {_FLAGS[name]}")
        try:
            return open_data(self.config.with_values(values), self._cache_dir)
        except ValueError as error:
            raise Lacking(
                f"its validation data cannot be opened ({error}); give others by --images, --texts"
            ) from error

    @property
    def classes(self) -> list[str]:
        """The names of the image classes, or their numbers where the names are unknown."""
        count = self.record["experiment"]["model"]["num_classes"]
        names = self.trained.classes or self.data.classes
        return names if names and len(names) == count else [f"class {n}" for n in range(count)]

    def sees(self, modality: str) -> Hashable:
        """A key of the examples of `images` or `text` that a run sees; None where it has none."""
        model = self.record["experiment"]["model"]
        if modality == "images" and self.variant.images:
            return model["image_size"], model["num_classes"]
        if modality == "text" and self.variant.text:
            return model["max_sequence_length"], self.record["inputs"].get("vocabulary")
        return None

    def activations(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Mean absolute activations: a step to (image, text), `(blocks, D)` each."""
        if not (self.variant.images and self.variant.text):
            raise Lacking(f"its variant {self.variant.name} has one modality only")
        stored = read_values(self.path, "activations")
        if not stored:
            raise Lacking(f"it has stored no activations; {_STORES}.activation_interval")
        return {step: (values["image"], values["text"]) for step, values in stored.items()}

    def masks(self) -> list[MaskValues]:
        """The masks after their updates, the steps ascending."""
        merge = self.config.merge
        if not has_masks(merge.name):
            raise Lacking(f"variant {self.variant.name} with merge.name={merge.name} has no masks")
        stored = MaskValues.read(self.path)
        if not stored:
            raise Lacking(f"it has stored no masks yet; {_STORES}.mask_pictures")
        return stored


class FineTunedRun:
    """The folder of a finished run of `finetune`, with its predictions for the reported split.

    `images` is the folder of the task's data, which holds its images; empty for that of TFDS.
    `section` is that of the task, `image` or `text`, in a run of two tasks.
    """

    def __init__(self, path: str, images: str = "", section: str = ""):
        self.path, self.images, self.section = path, images, section
        folder = RunFolder(path, writes=False)
        record, summary = folder.record(), folder.summary()
        if record is None or summary is None:
            raise ValueError(f"{path}: this fine-tuning is not finished; run it again")
        self.record, self.summary = record, summary
        kind = section or record["experiment"]["kind"]
        self.kind = "images" if kind == "image" else kind
        self.split = (summary["tasks"][section] if section else summary)["split"]
        model = RunFolder(os.path.join(path, summary["model"]), writes=False)
        file = predictions_file(section)
        rows = csv_reader(model.read(file) or "", csv.DictReader)
        self.rows: list[dict[str, str]] = [row for row in rows if row.get("split") == self.split]
        if not self.rows:
            raise ValueError(f"{model.path}/{file}: has no predictions of {self.split}")

    def sees(self, modality: str) -> Hashable:
        """As `PretrainedRun.sees`."""
        if modality != self.kind:
            return None
        return self.split, self.record["inputs"][dotted(self.section, self.split)]

    def image(self, row: dict[str, str]) -> np.ndarray:
        """The image of a row of predictions as the network sees it: uint8 `(size, size, 3)`."""
        names = list(self._examples.descriptions())
        wanted = {key: row.get(key) for key in names[0]}
        places = [number for number, about in enumerate(names) if about == wanted]
        if len(places) != 1:
            raise ValueError(f"{self.images}: has no single image {next(iter(wanted.values()))}")
        part = self._examples.part([(places[0], places[0] + 1)])
        return next(iter(part.evaluation(1)))["images"].numpy()[0]

    @functools.cached_property
    def _examples(self) -> Any:
        """The split of the task's images."""
        config = config_of(self.record)
        task = TASKS[config.tasks[self.section].task]
        if not (self.images or task.tfds):
            raise ValueError(f"{self.path}: its images are unknown; give --images")
        data = open_task(task, config, None, 0, self.images, section=self.section)
        return data.tests[self.split]


def open_runs(
    paths: list[str], images: str = "", texts: str = "", cache_dir: str = ""
) -> dict[str, PretrainedRun | FineTunedRun]:
    """Runs by the part of their paths that distinguishes them; of two tasks, with the section."""
    whole = [path if "://" in path else os.path.abspath(path) for path in paths]
    folders = [path.rstrip("/").split("/") for path in whole]
    shared = len(os.path.commonprefix([own[:-1] for own in folders]))
    if len({own[-1] for own in folders}) == len(folders):
        shared = -1  # the last folder is enough
    names = [re.sub(r"[^\w.+-]", "_", "-".join(own[shared:])) for own in folders]
    if len(set(names)) < len(names):
        raise ValueError(f"runs of the same name: {', '.join(names)}")
    runs = {}
    for name, path in zip(names, paths, strict=True):
        record = RunFolder(path, writes=False).record()
        kind = None if record is None else record["experiment"].get("kind")
        if kind == "both":
            tasks = ("image", "text")
            runs |= {f"{name}-{task}": FineTunedRun(path, images, task) for task in tasks}
        elif kind:
            runs[name] = FineTunedRun(path, images)
        else:
            runs[name] = PretrainedRun(path, images, texts, cache_dir)
    return runs
