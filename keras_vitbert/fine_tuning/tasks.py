"""The downstream tasks of the paper's Table 1, and those of a user."""

import dataclasses

from pipelines.command_line import UserError, meant


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
        Task("image_folder", "images"),
        Task("tsv", "text"),
    )
}


def find_task(name):
    """The task of a name.

    Args:
        name: str, of `--task`.

    Returns:
        `Task`.

    Raises:
        UserError: there is none.
    """
    if name not in TASKS:
        given = f"--task={name}: no such task" if name else "--task is missing"
        raise UserError(f"{given}; give one of {', '.join(TASKS)}{meant(name, TASKS)}")
    return TASKS[name]
