"""The splits of a downstream task, from TFDS or from a user's own data."""

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vitbert.configs.fine_tuning import FineTuning, ImageSettings, TaskSettings
from keras_vitbert.experiments.fine_tuning.evaluation import Split
from keras_vitbert.experiments.fine_tuning.tasks import Task, read_own
from pipelines.images.image_records import ImageRecordFiles
from pipelines.images.image_views import ImageViews
from pipelines.shards.records import RecordFiles
from pipelines.tasks import own_data, tfds_data
from pipelines.tasks.labelled_images import LabelledImages
from pipelines.tasks.labelled_rows import LabelledRows, numbered
from pipelines.tasks.labelled_texts import LabelledTexts
from pipelines.tasks.listed_images import ListedImages
from pipelines.tasks.notices import Notice, first_equal
from pipelines.tasks.own_examples import OwnExamples
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
    notices: tuple[Notice, ...] = ()  # about a user's own data

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
    own: OwnExamples | None = None,
) -> TaskData:
    """Opens the splits of a task, whose settings are in a section of the config.

    A user's own data, in `data_dir` or in `files`, take precedence; for TFDS, `data_dir` is its
    data folder. See `pipelines.tasks.own_data`.

    `classes` and `columns` are those of a trained model, which needs no training examples. Its
    columns, `sentences`, one or two names, and `label`, are read where the config names no others
    and a table has them. `choose` returns the config for a store of images, without open fields.
    `own` is what `read_own` returned, if it was called before.
    """
    is_new = download and task.tfds and not tf.io.gfile.isdir(data_dir)  # TFDS makes it
    if own is None and not is_new:
        trained = {"classes": classes, "known_columns": columns}
        where = config.tasks[section], data_dir, files, skip_damaged, bool(section)
        own = read_own(*where, **trained)
    stores: dict[str, ListedImages | ImageRecordFiles] = {}
    rows: dict[str, LabelledRows] = {}
    if own:
        stores, rows, classes = {**own.images}, own.rows, own.classes
        for split, place in own.places.items():
            if place.form == own_data.RECORDS:
                records = RecordFiles.find(place.paths[0])
                stores[split] = ImageRecordFiles(records, len(classes or ()))
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
    assert classes  # of TFDS, or refused
    notices = [*own.notices] if own else []
    is_trained = "train" in splits  # otherwise a trained model is only evaluated
    train: Any = splits.pop("train", None)
    selection, picked_on = None, ""
    if not own and task.selection:
        selection, picked_on = splits.pop(task.selection), task.selection
    elif {"test", "validation"} <= splits.keys():  # both are reported
        selection, picked_on = splits["validation"], "validation"
    if not splits:
        count = train.count
        train, splits[HELD_OUT] = cut(train, config.validation_fraction)
        held = splits[HELD_OUT].count
        text = f"{held:,} of {count:,} examples are held out for validation, as none are given"
        notices.append(Notice("held_out", "train", text, held))
    each = train.class_counts(len(classes)) if own and is_trained else None
    if each is not None and not each.all():
        absent = [classes[label] for label in np.flatnonzero(each == 0)]
        notices.append(Notice.of("no_example", "train", "classes have no example", absent))
    for name, split in splits.items():
        if 0 < config.test_examples < split.count:
            text = f"{config.test_examples:,} of its {split.count:,} examples are reported"
            notices.append(Notice("in_part", name, text, config.test_examples))
            splits[name] = cut(split, config.test_examples / split.count)[1]
    return TaskData(classes, train, splits, selection, picked_on, tuple(notices))


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
    """Cuts a fraction from a split, always the same; it resembles the rest, which comes first.

    Equal texts, and equal images that are not in records, stay together.
    """
    size = round(split.count * fraction)
    rest = split.count - size
    if not size or not rest:
        raise ValueError(
            f"validation_fraction={fraction}: splits {split.count} examples into {rest} and {size}"
        )
    if isinstance(split, LabelledTexts):
        order = np.random.default_rng(0).permutation(split.count)
        kept, part = _parts(order, split.rows.keys if split.rows else (), rest)
        return split.part(kept), split.part(part)
    if isinstance(split.store, ListedImages):  # which is in random order
        kept, part = _parts(np.arange(split.count), split.store.keys, rest)
        return split.take(kept), split.take(part)
    # Record files may be sorted by class, so the end of each of many stretches is cut.
    stretches = min(_STRETCHES, size, rest)
    begins = split.count * np.arange(stretches + 1) // stretches
    ends = begins[1:] - np.diff(size * np.arange(stretches + 1) // stretches)
    return (
        split.part(list(zip(begins[:-1].tolist(), ends.tolist(), strict=True))),
        split.part(list(zip(ends.tolist(), begins[1:].tolist(), strict=True))),
    )


def _parts(order: np.ndarray, keys: Sequence[Hashable], rest: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `rest` examples of an order, or some more, and the others; those of a key together.

    Each ascends. Without keys, all examples differ.
    """
    if len(keys):
        first = np.array(first_equal([keys[place] for place in order]))
        order, first = order[np.argsort(first, kind="stable")], np.sort(first)
        end = np.searchsorted(first, first[rest - 1], side="right")  # of the last one's equals
        rest = end if end < len(order) else np.searchsorted(first, first[rest - 1])
    if not 0 < rest < len(order):
        raise ValueError(f"{len(order)} training examples are all the same")
    return np.sort(order[:rest]), np.sort(order[rest:])
