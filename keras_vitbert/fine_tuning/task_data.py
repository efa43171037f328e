"""Opens the data of a downstream task: from TFDS, a folder of images, or TSV files."""

import dataclasses
import os
import re

import numpy as np
import tensorflow as tf

from pipelines.command_line import UserError, say
from pipelines.images.image_record_files import ImageRecordFiles
from pipelines.images.image_views import ImageViews
from pipelines.shards.records import RecordFiles
from pipelines.tasks import tfds_data, tsv_files
from pipelines.tasks.labelled_images import ImageFiles, LabelledImages
from pipelines.tasks.labelled_texts import LabelledTexts
from pipelines.text.casing import is_lower

HELD_OUT = "held_out"  # the name of a split that is cut from the training examples
_STRETCHES = 100  # of files of records
_VALIDATION_FOLDERS = ("validation", "val", "test")


@dataclasses.dataclass(frozen=True)
class TaskData:
    """The splits of a task.

    Attributes:
        classes: list of str.
        train: `LabelledImages` or `LabelledTexts`.
        tests: dict of a split's name to the same; the first one gives the result.
        selection: the split that learning rates are picked on, or None to cut one.
    """

    classes: list[str]
    train: LabelledImages | LabelledTexts
    tests: dict[str, LabelledImages | LabelledTexts]
    selection: LabelledImages | LabelledTexts | None = None

    def without_selection(self, part):
        """The training examples for a sweep, and the examples that pick its learning rate.

        Args:
            part: float, the fraction to cut from the training split if there is no `selection`.

        Returns:
            (training split, selection split).

        Raises:
            UserError: see `cut`.
        """
        if self.selection is not None:
            return self.train, self.selection
        return cut(self.train, part)


def open_task(task, config, vocabulary, max_length, data_dir="", download=False, max_bad_records=0):
    """Opens the splits of a task.

    `data_dir` may hold the task as a folder of images (`train/CLASS/*.jpg`, optionally
    `validation/`), as `train-*-of-*` of `pipelines.imagenet`, or as TSV files; otherwise it is
    TFDS' data folder.

    Args:
        task: `keras_vitbert.fine_tuning.tasks.Task`.
        config: `ConfigDict` of fine-tuning.
        vocabulary: list of str, for text.
        max_length: int, tokens of a text.
        data_dir: str, local or `gs://`.
        download: bool, whether TFDS may fetch missing data.
        max_bad_records: int, how many lines of TSV files may be left out.

    Returns:
        `TaskData`.

    Raises:
        UserError: something is missing, damaged or of another form.
    """
    if not task.tfds and not data_dir:
        raise UserError("--data_dir is missing; give the folder that holds the task's data")
    if data_dir and not tf.io.gfile.isdir(data_dir):
        raise UserError(f"--data_dir={data_dir}: no such folder; fix the path")
    if task.kind == "images":
        classes, splits = _open_images(task, config, data_dir, download)
    else:
        classes, splits = _open_texts(
            task, config, vocabulary, max_length, data_dir, download, max_bad_records
        )
    if len(classes) < 2:
        raise UserError(
            f"{data_dir}: all training examples are of one class, {classes[0]!r}; there is nothing "
            "to learn: add another class"
        )
    train = splits.pop("train")
    # A user's own data have at most one further split, which is for testing.
    selection = splits.pop(task.selection, None) if len(splits) > 1 else None
    data = TaskData(classes, train, splits, selection)
    if not data.tests:
        rest, held_out = cut(data.train, config.selection_part)
        say(
            f"{data_dir} has no validation data: {held_out.count} of the training examples are "
            "held out as such"
        )
        data = dataclasses.replace(data, train=rest, tests={HELD_OUT: held_out})
    return data


def cut(split, part):
    """Cuts a part from a split that is like the rest, always the same one.

    Args:
        split: `LabelledImages` or `LabelledTexts`.
        part: float, a fraction of the examples.

    Returns:
        (the rest, the part).

    Raises:
        UserError: one of them is empty.
    """
    size = round(split.count * part)
    if not 0 < size < split.count:
        raise UserError(
            f"--config.selection_part={part}: of {split.count} training examples that leaves "
            f"{split.count - size} and {size}; give another part, or a validation split"
        )
    rest = split.count - size
    if isinstance(split, LabelledTexts):
        order = np.random.default_rng(0).permutation(split.count)
        return split.part(np.sort(order[:rest])), split.part(np.sort(order[rest:]))
    # Lists of images are in a random order. Files of records need not be: they may be sorted by
    # class, so that the end of each of many stretches is cut.
    stretches = 1 if isinstance(split.store, ImageFiles) else min(_STRETCHES, size, rest)
    begins = split.count * np.arange(stretches + 1) // stretches
    ends = begins[1:] - np.diff(size * np.arange(stretches + 1) // stretches)
    return (
        split.part(list(zip(begins[:-1].tolist(), ends.tolist(), strict=True))),
        split.part(list(zip(ends.tolist(), begins[1:].tolist(), strict=True))),
    )


# --- images --------------------------------------------------------------------------------------


def _open_images(task, config, data_dir, download):
    """(classes, dict of a split to `LabelledImages`)."""
    views = ImageViews.from_config(config.image_size, config.images)
    if data_dir and tf.io.gfile.isdir(os.path.join(data_dir, "train")):
        classes, stores = _image_folder(data_dir)
    elif data_dir and tf.io.gfile.glob(os.path.join(data_dir, "train-*-of-*")):
        classes, stores = _image_records(data_dir)
    elif not task.tfds:
        raise UserError(
            f"--data_dir={data_dir}: holds no folder train/ with a folder of images a class; "
            "make one"
        )
    else:
        builder = tfds_data.open_builder(task.tfds, data_dir, download)
        classes = tfds_data.class_names(builder)
        splits = ["train", *task.tests, *([task.selection] if task.selection else [])]
        stores = {split: tfds_data.read_images(builder, split) for split in splits}
    return classes, {name: LabelledImages(store, views) for name, store in stores.items()}


def _image_folder(data_dir):
    """(classes, dict of split to `ImageFiles`) of `train/CLASS/*.jpg` and other splits."""
    train, classes = ImageFiles.find(os.path.join(data_dir, "train"))
    stores = {"train": train}
    paths = [os.path.join(data_dir, name) for name in _VALIDATION_FOLDERS]
    found = [path for path in paths if tf.io.gfile.isdir(path)]
    if found:
        stores["validation"], _ = ImageFiles.find(found[0], classes)
    if found[1:]:
        say(f"the results are those of {found[0]}; {' and '.join(found[1:])} is not used")
    return classes, stores


def _image_records(data_dir):
    """The same from files that `pipelines.imagenet` has written."""
    path = os.path.join(data_dir, "classes.txt")
    try:
        with tf.io.gfile.GFile(path) as file:
            classes = file.read().splitlines()
    except (tf.errors.OpError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read; it names the classes of train-*-of-*, as "
            "pipelines.imagenet writes it"
        ) from error
    stores = {}
    for name in ("train", "validation"):
        pattern = os.path.join(data_dir, f"{name}-*-of-*")
        if name == "train" or tf.io.gfile.glob(pattern):
            records = RecordFiles.find(pattern, "data_dir")
            stores[name] = ImageRecordFiles(records, len(classes))
    return classes, stores


# --- texts ---------------------------------------------------------------------------------------


def _open_texts(task, config, vocabulary, max_length, data_dir, download, max_bad_records):
    """(classes, dict of a split to `LabelledTexts`)."""
    holds_files = data_dir and tf.io.gfile.exists(os.path.join(data_dir, tsv_files.TRAIN))
    if task.tfds and not holds_files:
        builder = tfds_data.open_builder(task.tfds, data_dir, download)
        rows = {
            split: tfds_data.read_rows(builder, split, task.columns)
            for split in ("train", *task.tests)
        }
        classes = tfds_data.class_names(builder)
    else:
        rows = _tsv_rows(config, data_dir, max_bad_records)
        classes = sorted(set(rows["train"].labels), key=_class_order)
    buckets = [length for length in config.buckets if length < max_length]
    lower_case = is_lower(config.data.case, vocabulary)
    return classes, {
        split: _encoded(part, classes, vocabulary, [*buckets, max_length], lower_case)
        for split, part in rows.items()
    }


def _tsv_rows(config, data_dir, max_bad_records):
    columns = [name for name in config.data.sentence_columns.split(",") if name]
    rows = {}
    for split, path in tsv_files.find_files(data_dir).items():
        rows[split] = tsv_files.read_rows(path, columns, config.data.label_column, max_bad_records)
        max_bad_records -= len(rows[split].damaged)
        for line in rows[split].damaged:
            say(f"left out: {line}")
        if (rows[split].second is None) != (rows["train"].second is None):
            raise UserError(
                f"{path}: has another number of sentence columns than {rows['train'].source}; "
                "name them by --config.data.sentence_columns"
            )
    return rows


def _encoded(rows, classes, vocabulary, buckets, lower_case):
    indices = {name: index for index, name in enumerate(classes)}
    for place, label in enumerate(rows.labels):
        if label not in indices:
            raise UserError(
                f"{rows.source}: the class {label!r} (of {rows.first[place][:40]!r} ...) is not "
                f"among those of the training examples, {', '.join(classes[:10])}; remove it, or "
                "add it to them"
            )
    labels = [indices[label] for label in rows.labels]
    return LabelledTexts.encode(rows.first, rows.second, labels, vocabulary, buckets, lower_case)


def _class_order(name):
    """Sorts numbers by value, and before names."""
    is_number = re.fullmatch("-?[0-9]+", name) is not None
    return not is_number, int(name) if is_number else 0, name
