"""The splits of a downstream task, from TFDS or from a user's own data."""

import dataclasses
import os
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vitbert.configs.fine_tuning import FineTuning, ImageSettings, TaskSettings
from keras_vitbert.experiments.fine_tuning.evaluation import Split
from keras_vitbert.experiments.fine_tuning.tasks import Task
from pipelines.command_line import say
from pipelines.files import reading
from pipelines.images.image_records import ImageRecordFiles
from pipelines.images.image_views import ImageViews
from pipelines.shards.records import RecordFiles
from pipelines.tasks import own_data, tfds_data
from pipelines.tasks.labelled_images import LabelledImages
from pipelines.tasks.labelled_rows import LabelledRows, numbered, read_rows
from pipelines.tasks.labelled_texts import LabelledTexts
from pipelines.tasks.listed_images import ListedImages, read_images
from pipelines.text.casing import is_lower

HELD_OUT = "held_out"  # the name of a split that is cut from the training examples
_STRETCHES = 100  # of record files, see `cut`


@dataclasses.dataclass(frozen=True)
class TaskData:
    """The splits of a task."""

    classes: list[str]  # their names, in the order of the labels
    train: Split
    tests: dict[str, Split]  # those that are reported; the first one gives the result
    selection: Split | None = None  # what learning rates are picked on; None to cut a split
    picked_on: str = ""  # its name

    def split_for_sweep(self, fraction: float) -> tuple[Split, Split]:
        """The training examples for a sweep, and the examples that pick its learning rate.

        These are a fraction of the training split if there is no `selection`.
        """
        return cut(self.train, fraction) if self.selection is None else (self.train, self.selection)


def open_task(
    task: Task,
    config: FineTuning,
    vocabulary: list[str] | None,
    max_length: int,
    data_dir: str = "",
    download: bool = False,
    skip_damaged: int = 0,
    files: dict[str, str] | None = None,
    classes: list[str] | None = None,
    columns: dict | None = None,
    choose: Callable | None = None,
    section: str = "",
) -> TaskData:
    """Opens the splits of a task, whose settings are in a section of the config.

    A user's own data, in `data_dir` or in `files`, take precedence; for TFDS, `data_dir` is its
    data folder. See `pipelines.tasks.own_data`.

    `classes` and `columns` are those of a trained model, which needs no training examples. Its
    columns, `sentences`, one or two names, and `label`, are read where the config names no others
    and a table has them. `choose` returns the config for a store of images, without open fields.
    """
    is_new = download and task.tfds and not tf.io.gfile.isdir(data_dir)  # TFDS makes it
    places = own_data.find_splits("" if is_new else data_dir, files, anything=not task.tfds)
    if places and classes is None and "train" not in places:
        raise ValueError(f"{'; '.join(map(str, places.values()))}: there are no training examples")
    # One of two tasks is named by its flag; the task of other data was named or chosen by them.
    if section and places and own_data.kind_of(places, task.kind) != task.kind:
        place = next(iter(places.values()))
        raise ValueError(f"{place}: holds no {task.kind}, which task {task.name} takes")
    stores: dict[str, ListedImages | ImageRecordFiles] = {}
    rows: dict[str, LabelledRows] = {}
    if places:
        if task.kind == "images":
            settings = config.tasks[section]
            stores, classes = _own_images(places, settings, classes, skip_damaged)
        else:
            rows = _own_texts(places, config.tasks[section], skip_damaged, files or (), columns)
    else:
        builder = tfds_data.open_builder(task.tfds, data_dir, download)
        classes = tfds_data.class_names(builder)
        names = filter(None, ["train", *task.tests, task.selection])
        if task.kind == "images":
            stores = {split: tfds_data.read_images(builder, split) for split in names}
        else:
            rows = {split: tfds_data.read_rows(builder, split, task.columns) for split in names}
    if stores and choose is not None:
        config = choose(next(iter(stores.values())))
    settings, splits = config.tasks[section], {}
    if isinstance(settings, ImageSettings):
        views = ImageViews.from_config(settings.image_size, settings.images)
        splits |= {split: LabelledImages(store, views) for split, store in stores.items()}
    for split, part in rows.items():
        labels, classes = numbered(part.labels, classes, part.source)
        splits[split] = _encode(part, labels, vocabulary or [], settings, max_length)
    if not classes or len(classes) < 2:
        raise ValueError(f"{places['train']}: all training examples are of class {classes}")
    train: Any = splits.pop("train", None)  # None where a trained model is only evaluated
    selection, picked_on = None, ""
    if not places and task.selection:
        selection, picked_on = splits.pop(task.selection), task.selection
    elif {"test", "validation"} <= splits.keys():  # both are reported
        selection, picked_on = splits["validation"], "validation"
    if not splits:
        train, splits[HELD_OUT] = cut(train, config.validation_fraction)
        say(
            f"there are no validation data: {splits[HELD_OUT].count} of the training examples are "
            "held out for validation"
        )
    for name, split in splits.items():
        if 0 < config.test_examples < split.count:
            say(f"{name}: {config.test_examples:,} of its {split.count:,} examples are reported")
            splits[name] = cut(split, config.test_examples / split.count)[1]
    return TaskData(classes, train, splits, selection, picked_on)


def _own_images(
    places: dict[str, own_data.Place],
    settings: TaskSettings,
    classes: list[str] | None,
    skip_damaged: int,
) -> tuple[dict[str, ListedImages | ImageRecordFiles], list[str]]:
    """The stores of own images, by split, and the names of the classes."""
    stores: dict[str, ListedImages | ImageRecordFiles] = {}
    for split, place in places.items():
        if place.form == own_data.RECORDS:
            with reading(os.path.join(os.path.dirname(place.paths[0]), "classes.txt")) as (file, _):
                known = file.read().decode().splitlines()
            if classes not in (None, known):
                raise ValueError(f"{place}: its classes differ from those of the training images")
            records = RecordFiles.find(place.paths[0])
            stores[split], classes = ImageRecordFiles(records, len(known)), known
        elif place.form == own_data.FOLDERS:
            stores[split], classes = ListedImages.find(place.paths[0], classes)
        else:
            columns = settings.value("data.image_column"), settings.value("data.label_column")
            stores[split], classes, left_out = read_images(
                place.tables(), *columns, classes, skip_damaged
            )
            skip_damaged -= left_out
    return stores, classes or []


def _own_texts(
    places: dict[str, own_data.Place],
    settings: TaskSettings,
    skip_damaged: int,
    asked_for: Collection[str],
    columns: dict | None,
) -> dict[str, LabelledRows]:
    """The rows of a user's own tables, by split; reports what is left out.

    Splits that are `asked_for` must have labels.
    """
    given = tuple(filter(None, settings.value("data.sentence_columns").split(",")))
    known, rows = columns or {"sentences": (), "label": ""}, {}
    for split, place in places.items():
        tables = place.tables()
        there = set(tables[0].columns)
        if rows and known["label"] not in there and split not in asked_for and split == "test":
            say(f"{place}: has no column {known['label']!r}, so nothing is measured on it")
            continue
        sentences = given or (known["sentences"] if there.issuperset(known["sentences"]) else ())
        label = settings.value("data.label_column") or (
            known["label"] if known["label"] in there else ""
        )
        rows[split] = read = read_rows(tables, sentences, label, skip_damaged)
        skip_damaged -= read.left_out
        if len(known["sentences"]) not in (0, len(read.sentence_columns)):
            raise ValueError(
                f"{read.source}: has {len(read.sentence_columns)} columns of sentences, others "
                f"have {len(known['sentences'])}; name them in data.sentence_columns"
            )
        if len(rows) == 1:  # the next splits have the columns of the first one, if they are present
            known = {"sentences": read.sentence_columns, "label": read.label_column}
    return rows


def _encode(
    rows: LabelledRows,
    labels: list[int],
    vocabulary: list[str],
    settings: TaskSettings,
    max_length: int,
) -> LabelledTexts:
    """Texts as token ids."""
    boundaries = [n for n in settings.value("bucket_boundaries") if n < max_length] + [max_length]
    lower = is_lower(settings.value("data.case"), vocabulary)
    texts = LabelledTexts.encode(rows.first, rows.second, labels, vocabulary, boundaries, lower)
    return dataclasses.replace(texts, rows=rows)


def cut(split: Split, fraction: float) -> tuple[Split, Split]:
    """Cuts a fraction from a split, always the same; it resembles the rest, which comes first."""
    size = round(split.count * fraction)
    rest = split.count - size
    if not size or not rest:
        raise ValueError(
            f"validation_fraction={fraction}: splits {split.count} examples into {rest} and {size}"
        )
    if isinstance(split, LabelledTexts):
        order = np.random.default_rng(0).permutation(split.count)
        return split.part(np.sort(order[:rest])), split.part(np.sort(order[rest:]))
    # Lists of images are in random order. Record files may be sorted by class, so the end of each
    # of many stretches is cut.
    is_ordered = isinstance(split.store, ImageRecordFiles)
    stretches = min(_STRETCHES, size, rest) if is_ordered else 1
    begins = split.count * np.arange(stretches + 1) // stretches
    ends = begins[1:] - np.diff(size * np.arange(stretches + 1) // stretches)
    return (
        split.part(list(zip(begins[:-1].tolist(), ends.tolist(), strict=True))),
        split.part(list(zip(ends.tolist(), begins[1:].tolist(), strict=True))),
    )
