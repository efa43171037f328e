"""The downstream tasks of the paper's Table 1, and those of a user."""

import dataclasses

from pipelines.command_line import UserError, meant


@dataclasses.dataclass(frozen=True)
class Task:
    """Where the examples of a task are.

    Attributes:
        name: str, what `--task` calls it.
        kind: str, `images` or `text`.
        tfds: str, the name in TensorFlow Datasets; empty for a user's own data.
        tests: tuple of str, the splits that are reported, the first one as the result.
        selection: str, the split that learning rates are picked on; empty for a part cut from the
            training split.
        columns: tuple of one or two str, the features that hold the sentences.
        num_classes: int; 0 for a user's own data.
    """

    name: str
    kind: str
    tfds: str = ""
    tests: tuple[str, ...] = ()
    selection: str = ""
    columns: tuple[str, ...] = ()
    num_classes: int = 0


TASKS = {
    task.name: task
    for task in (
        Task("cifar10", "images", "cifar10", ("test",), num_classes=10),
        Task("cifar100", "images", "cifar100", ("test",), num_classes=100),
        Task("imagenet", "images", "imagenet2012", ("validation",), num_classes=1000),
        Task("pets", "images", "oxford_iiit_pet", ("test",), num_classes=37),
        Task(
            "flowers",
            "images",
            "oxford_flowers102",
            ("test",),
            selection="validation",
            num_classes=102,
        ),
        Task(
            "mnli",
            "text",
            "glue/mnli",
            ("validation_matched", "validation_mismatched"),
            columns=("premise", "hypothesis"),
            num_classes=3,
        ),
        Task(
            "qqp",
            "text",
            "glue/qqp",
            ("validation",),
            columns=("question1", "question2"),
            num_classes=2,
        ),
        Task(
            "qnli",
            "text",
            "glue/qnli",
            ("validation",),
            columns=("question", "sentence"),
            num_classes=2,
        ),
        Task("sst2", "text", "glue/sst2", ("validation",), columns=("sentence",), num_classes=2),
        Task(
            "rte",
            "text",
            "glue/rte",
            ("validation",),
            columns=("sentence1", "sentence2"),
            num_classes=2,
        ),
        Task("image_folder", "images"),
        Task("tsv", "text"),
    )
}


def find_task(name):
    """The task of a name.

    Raises:
        UserError: there is none.
    """
    if name not in TASKS:
        given = f"--task={name}: no such task" if name else "--task is missing"
        raise UserError(f"{given}; give one of {', '.join(TASKS)}{meant(name, TASKS)}")
    return TASKS[name]
