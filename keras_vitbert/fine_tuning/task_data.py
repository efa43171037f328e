"""The splits of a downstream task, from TFDS or from a user's own data."""

import dataclasses
import unicodedata

import numpy as np
import tensorflow as tf

from keras_vitbert.fine_tuning import task_images, task_texts
from pipelines.command_line import say
from pipelines.images.image_record_files import ImageRecordFiles
from pipelines.tasks import own_data
from pipelines.tasks.labelled_images import LabelledImages
from pipelines.tasks.labelled_texts import LabelledTexts

HELD_OUT = "held_out"  # the name of a split that is cut from the training examples
_STRETCHES = 100  # of record files, see `cut`


@dataclasses.dataclass(frozen=True)
class TaskData:
    """The splits of a task.

    Attributes:
        classes: list of str.
        train: `LabelledImages` or `LabelledTexts`; None where a trained model is only evaluated.
        tests: dict of a split's name to a split; the first one gives the result.
        selection: the split that learning rates are picked on, or None to cut one.
        picked_on: str, its name.
    """

    classes: list[str]
    train: LabelledImages | LabelledTexts | None
    tests: dict[str, LabelledImages | LabelledTexts]
    selection: LabelledImages | LabelledTexts | None = None
    picked_on: str = ""

    def without_selection(self, part):
        """The training examples for a sweep, and the examples that pick its learning rate.

        Args:
            part: float, the fraction to cut from the training split if there is no `selection`.

        Returns:
            (training split, selection split).

        Raises:
            ValueError: see `cut`.
        """
        if self.selection is not None:
            return self.train, self.selection
        return cut(self.train, part)

    def tested_on(self, count):
        """The same data with smaller splits to report: a fixed part of each, see `cut`.

        Args:
            count: int, the most examples of a split; 0 for all.

        Returns:
            `TaskData`.
        """
        large = {n: split for n, split in self.tests.items() if 0 < count < split.count}
        for name, split in large.items():
            say(f"{name}: {count:,} of its {split.count:,} examples are reported (test_examples)")
        parts = {name: cut(split, count / split.count)[1] for name, split in large.items()}
        return dataclasses.replace(self, tests={**self.tests, **parts})


def open_task(
    task,
    config,
    vocabulary,
    max_length,
    data_dir="",
    download=False,
    skip_damaged=0,
    files=None,
    classes=None,
    columns=None,
    choose=None,
):
    """Opens the splits of a task.

    A user's own data, in `data_dir` or in `files`, take precedence; for TFDS, `data_dir` is its
    data folder. See `pipelines.tasks.own_data`.

    Args:
        task: `keras_vitbert.fine_tuning.tasks.Task`.
        config: `keras_vitbert.configs.fine_tuning.FineTuning`.
        vocabulary: list of str, for text.
        max_length: int, tokens of a text.
        data_dir: str, local or `gs://`.
        download: bool, whether TFDS may fetch missing data.
        skip_damaged: int, how many rows of tables may be left out.
        files: dict of `train`, `validation` or `test` to a path.
        classes: list of str, those of a trained model, which needs no training examples.
        columns: dict, see `task_texts.read_own`.
        choose: function of a store of images that returns the config without open fields.

    Returns:
        `TaskData`.

    Raises:
        ValueError: something is missing, damaged or in an unexpected form.
    """
    is_new = download and task.tfds and not tf.io.gfile.isdir(data_dir)  # TFDS makes it
    places = own_data.find_splits("" if is_new else data_dir, files, anything=not task.tfds)
    if not places and not task.tfds:
        raise ValueError(
            own_data.nothing_found(data_dir)
            if data_dir
            else "no data are given: neither data_dir nor train"
        )
    if places and classes is None and "train" not in places:
        raise ValueError(f"{'; '.join(map(str, places.values()))}: there are no training examples")
    if task.kind == "images":
        if places:
            classes, splits = task_images.open_own(places, config, classes, skip_damaged, choose)
        else:
            classes, splits = task_images.open_tfds(task, config, data_dir, download)
    else:
        if places:
            classes, rows = task_texts.read_own(
                places, config, classes, skip_damaged, tuple(files or ()), columns
            )
        else:
            classes, rows = task_texts.read_tfds(task, data_dir, download)
        splits = {
            split: task_texts.encoded(part, classes, vocabulary, config, max_length)
            for split, part in rows.items()
        }
    if len(classes) < 2:
        raise ValueError(
            f"{places['train']}: all training examples are of one class, {classes[0]!r}; there is "
            "nothing to learn: add another class"
        )
    _tell_look_alikes(classes)
    return _task_data(task, config, classes, splits, is_own=bool(places))


def _tell_look_alikes(classes):
    """Reports classes that differ only in how Unicode spells them, such as a composed `é`."""
    known = {}
    for name in classes:
        other = known.setdefault(unicodedata.normalize("NFKC", name), name)
        if other != name:
            say(
                f"two classes look alike: {other!a} and {name!a}; if they are one, write it one way"
            )


def _task_data(task, config, classes, splits, is_own):
    train, selection, picked_on = splits.pop("train", None), None, ""
    if is_own and {"test", "validation"} <= splits.keys():
        selection, picked_on = splits["validation"], "validation"
    elif not is_own and task.selection:
        selection, picked_on = splits.pop(task.selection), task.selection
    data = TaskData(classes, train, splits, selection, picked_on)
    if not data.tests:
        rest, held_out = cut(data.train, config.selection_part)
        say(
            f"there are no validation data: {held_out.count} of the training examples are held out "
            "for validation"
        )
        data = dataclasses.replace(data, train=rest, tests={HELD_OUT: held_out})
    return data.tested_on(config.test_examples)


def cut(split, part):
    """Cuts a fixed part from a split; it resembles the rest.

    Args:
        split: `LabelledImages` or `LabelledTexts`.
        part: float, a fraction of the examples.

    Returns:
        (the rest, the part).

    Raises:
        ValueError: one of them would be empty.
    """
    size = round(split.count * part)
    if not 0 < size < split.count:
        raise ValueError(
            f"selection_part={part}: splits {split.count} examples into "
            f"{split.count - size} and {size}; give another part, or a validation split"
        )
    rest = split.count - size
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
