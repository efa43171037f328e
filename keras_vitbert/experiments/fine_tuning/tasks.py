"""The downstream tasks of the paper's Table 1, and those with a user's own data."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from keras_vitbert.configs.fine_tuning import (
    IMAGES,
    TEXTS,
    FineTuning,
    TaskSettings,
    get_config,
)
from pipelines.command_line import meant
from pipelines.tasks import own_data

if TYPE_CHECKING:
    from pipelines.tasks.own_examples import OwnExamples


@dataclasses.dataclass(frozen=True)
class Task:
    """A downstream task and where its examples are."""

    name: str
    kind: str  # `images` or `text`
    tfds: str = ""  # the name in TensorFlow Datasets; empty for a user's own data
    num_classes: int = 0  # 0 for a user's own data
    # The splits that are reported; the first one gives the result.
    tests: tuple[str, ...] = ("validation",)
    selection: str = ""  # the split that rates are picked on; empty to cut one from the training
    columns: tuple[str, ...] = ()  # one or two features that hold the sentences


_MNLI_TESTS = "validation_matched", "validation_mismatched"
TASKS = {
    task.name: task
    for task in (
        Task("cifar10", "images", "cifar10", 10, ("test",)),
        Task("cifar100", "images", "cifar100", 100, ("test",)),
        Task("imagenet", "images", "imagenet2012", 1000),
        Task("pets", "images", "oxford_iiit_pet", 37, ("test",)),
        Task("flowers", "images", "oxford_flowers102", 102, ("test",), selection="validation"),
        Task("mnli", "text", "glue/mnli", 3, _MNLI_TESTS, columns=("premise", "hypothesis")),
        Task("qqp", "text", "glue/qqp", 2, columns=("question1", "question2")),
        Task("qnli", "text", "glue/qnli", 2, columns=("question", "sentence")),
        Task("sst2", "text", "glue/sst2", 2, columns=("sentence",)),
        Task("rte", "text", "glue/rte", 2, columns=("sentence1", "sentence2")),
        Task(IMAGES, "images"),
        Task(TEXTS, "text"),
    )
}


def find_task(name: str) -> Task:
    """A task by name."""
    if name not in TASKS:
        raise ValueError(f"task {name}: must be one of {', '.join(TASKS)}{meant(name, TASKS)}")
    return TASKS[name]


def find_config(names: str) -> FineTuning:
    """The config of a task by name, or of one on images and one on texts, comma-separated."""
    tasks = sorted(map(find_task, names.split(",")), key=lambda task: task.kind)
    if len(tasks) == 1:
        return get_config(tasks[0].name, tasks[0].kind)
    if [task.kind for task in tasks] != ["images", "text"]:
        raise ValueError(f"task {names}: must be one task, or one on images and one on texts")
    return get_config(",".join(task.name for task in tasks), "both")


def choose_task(data_dir: str, files: dict[str, str]) -> str:
    """The task of own data in a folder or in files by split."""
    if not data_dir and not files:
        raise ValueError(f"no data and no task: must be own data, or one of {', '.join(TASKS)}")
    places = own_data.find_splits(data_dir, files)
    return IMAGES if own_data.kind_of(places) == "images" else TEXTS


def read_own(
    settings: TaskSettings,
    data_dir: str = "",
    files: dict[str, str] | None = None,
    skip_damaged: int = 0,
    is_one_of_two: bool = False,
    **trained: Any,
) -> OwnExamples | None:
    """A user's own data for a task, see `pipelines.tasks.own_data`; None of TFDS' folder.

    `trained` are `classes` and `known_columns` of a model that needs no training examples.
    """
    from pipelines.tasks.own_examples import read_own_examples  # NumPy, which help needs not

    task = find_task(settings.task)
    places = own_data.find_splits(data_dir, files, anything=not task.tfds)
    if not places:
        return None
    if trained.get("classes") is None and "train" not in places:
        raise ValueError(f"{'; '.join(map(str, places.values()))}: there are no training examples")
    # One of two tasks is named by its flag; the task of other data was named or chosen by them.
    if is_one_of_two and own_data.kind_of(places, task.kind) != task.kind:
        place = next(iter(places.values()))
        raise ValueError(f"{place}: holds no {task.kind}, which task {task.name} takes")
    columns = settings.value("data")
    return read_own_examples(places, task.kind, columns, skip_damaged, files or (), **trained)
