"""The downstream tasks of the paper's Table 1, and those with a user's own data."""

import dataclasses
import os

from keras_vitbert.configs.fine_tuning import IMAGES, OLD_TASKS, TEXTS
from pipelines.command_line import meant
from pipelines.files import json_object, require_end
from pipelines.tasks import own_data


@dataclasses.dataclass(frozen=True)
class Task:
    """A downstream task and where its examples are.

    Attributes:
        name: str, of `--task`.
        kind: str, `images` or `text`.
        tfds: str, the name in TensorFlow Datasets; empty for a user's own data.
        num_classes: int; 0 for a user's own data.
        tests: tuple of str, the splits that are reported; the first one gives the result.
        selection: str, the split that learning rates are picked on; empty for a part cut from the
            training split.
        columns: tuple of one or two str, the features that hold the sentences.
    """

    name: str
    kind: str
    tfds: str = ""
    num_classes: int = 0
    tests: tuple[str, ...] = ()
    selection: str = ""
    columns: tuple[str, ...] = ()


def _glue(name, num_classes, columns, tests=("validation",)):
    return Task(name, "text", f"glue/{name}", num_classes, tests, columns=columns)


TASKS = {
    task.name: task
    for task in (
        Task("cifar10", "images", "cifar10", 10, ("test",)),
        Task("cifar100", "images", "cifar100", 100, ("test",)),
        Task("imagenet", "images", "imagenet2012", 1000, ("validation",)),
        Task("pets", "images", "oxford_iiit_pet", 37, ("test",)),
        Task("flowers", "images", "oxford_flowers102", 102, ("test",), selection="validation"),
        _glue(
            "mnli", 3, ("premise", "hypothesis"), ("validation_matched", "validation_mismatched")
        ),
        _glue("qqp", 2, ("question1", "question2")),
        _glue("qnli", 2, ("question", "sentence")),
        _glue("sst2", 2, ("sentence",)),
        _glue("rte", 2, ("sentence1", "sentence2")),
        Task(IMAGES, "images"),
        Task(TEXTS, "text"),
    )
}


def find_task(name):
    """Finds a task by name.

    Args:
        name: str, of `--task`.

    Returns:
        `Task`.

    Raises:
        ValueError: there is none.
    """
    name = OLD_TASKS.get(name, name)
    if name not in TASKS:
        given = f"--task={name}: no such task" if name else "--task is missing"
        raise ValueError(f"{given}; give one of {', '.join(TASKS)}{meant(name, TASKS)}")
    return TASKS[name]


def choose_task(values):
    """The task that the flags name, or that follows from the data or from the trained model.

    Args:
        values: `absl.flags.FlagValues` of `keras_vitbert.finetune`.

    Returns:
        `Task`.

    Raises:
        ValueError: there is no such task, or none follows.
    """
    files = files_of(values)
    if values.task:
        task = find_task(values.task)
        if files and task.tfds:
            raise ValueError(
                f"--{next(iter(files))} is for your own data; leave out --task={task.name}"
            )
        return task
    is_evaluation = "evaluate_only" in values and values.evaluate_only  # `probe` lacks the flag
    if is_evaluation and (name := _recorded_task(values.checkpoint)):
        return find_task(name)
    if not values.data_dir and not files:
        raise ValueError(
            f"--task is missing; give one of {', '.join(TASKS)}, or your own data with "
            "--data_dir=DIR or --train=FILE"
        )
    places = own_data.find_splits(values.data_dir, files)
    if not places:
        raise ValueError(own_data.nothing_found(values.data_dir))
    return TASKS[IMAGES if own_data.kind_of(places) == "images" else TEXTS]


def files_of(values):
    """The files of single splits that the flags name.

    Args:
        values: `absl.flags.FlagValues` of `keras_vitbert.finetune`.

    Returns:
        dict of the name of a split to a path.
    """
    splits = ("train", "validation", "test")  # `keras_vitbert.aot` has no flags for them
    given = {split: getattr(values, split, "") for split in splits}
    return {split: path for split, path in given.items() if path}


def inputs_of(values, task):
    """What the flags name to be read: checkpoint, architecture, vocabulary and data.

    Args:
        values: `absl.flags.FlagValues` of `keras_vitbert.finetune`.
        task: `Task`.

    Returns:
        list of str, files and folders; some may be empty, or names of another kind.

    Raises:
        ValueError: data are missing or ambiguous.
    """
    files = files_of(values)
    named = [values.checkpoint, values.architecture, values.vocabulary, *files.values()]
    if task.tfds:
        return [*named, values.data_dir]
    places = own_data.find_splits(values.data_dir, files).values()
    # A folder of tables holds other files too.
    if any(place.form in (own_data.RECORDS, own_data.SAVED) for place in places):
        named.append(values.data_dir)
    return [*named, *(path for place in places for path in place.paths)]


def _recorded_task(folder):
    """The task of a local run of fine-tuning, or None."""
    path = os.path.join(folder, "config.json")
    try:
        require_end(path)
        with open(path, "rb") as file:
            task = json_object(file.read()).get("task")
    except (OSError, ValueError):  # reported when the run is opened
        return None
    return task if isinstance(task, str) else None
