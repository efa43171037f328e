"""The downstream tasks of the paper's Table 1, and those with a user's own data."""

import dataclasses

from keras_vitbert.configs.fine_tuning import IMAGES, TEXTS
from pipelines.command_line import meant
from pipelines.tasks import own_data


@dataclasses.dataclass(frozen=True)
class Task:
    """A downstream task and where its examples are."""

    name: str
    kind: str  # `images` or `text`
    tfds: str = ""  # the name in TensorFlow Datasets; empty for a user's own data
    num_classes: int = 0  # 0 for a user's own data
    tests: tuple[str, ...] = ()  # the splits that are reported; the first one gives the result
    selection: str = ""  # the split that rates are picked on; empty to cut one from the training
    columns: tuple[str, ...] = ()  # one or two features that hold the sentences


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


def find_task(name: str) -> Task:
    """A task by name.

    Raises:
        ValueError: there is none.
    """
    if name not in TASKS:
        raise ValueError(f"task {name}: must be one of {', '.join(TASKS)}{meant(name, TASKS)}")
    return TASKS[name]


def choose_task(name: str, data_dir: str, files: dict[str, str]) -> Task:
    """A task by name, or that of a user's own data.

    Args:
        name: empty for own data.
        data_dir: their folder, or empty.
        files: paths by split, instead of or beside the folder.

    Raises:
        ValueError: there is no such task, or none follows.
    """
    if name:
        return find_task(name)
    if not data_dir and not files:
        raise ValueError(f"no data and no task: must be own data, or one of {', '.join(TASKS)}")
    places = own_data.find_splits(data_dir, files)
    return TASKS[IMAGES if own_data.kind_of(places) == "images" else TEXTS]
