"""The downstream tasks of the paper's Table 1, and those of a user."""

import dataclasses

from keras_vitbert.configs.overrides import meant
from pipelines.command_line import UserError


@dataclasses.dataclass(frozen=True)
class Task:
    """Where the examples of a task are.

    Attributes:
        kind: str, `images` or `text`.
        tfds: str, the name in TensorFlow Datasets; empty for a user's own data.
        tests: tuple of str, the splits that are reported, the first one as the result.
        selection: str, the split that learning rates are picked on; empty for a part cut from the
            training split.
        columns: tuple of one or two str, the features that hold the sentences.
        num_classes: int; 0 for a user's own data.
    """

    kind: str
    tfds: str = ""
    tests: tuple = ()
    selection: str = ""
    columns: tuple = ()
    num_classes: int = 0


TASKS = {
    "cifar10": Task("images", "cifar10", ("test",), num_classes=10),
    "cifar100": Task("images", "cifar100", ("test",), num_classes=100),
    "imagenet": Task("images", "imagenet2012", ("validation",), num_classes=1000),
    "pets": Task("images", "oxford_iiit_pet", ("test",), num_classes=37),
    "flowers": Task(
        "images", "oxford_flowers102", ("test",), selection="validation", num_classes=102
    ),
    "mnli": Task(
        "text",
        "glue/mnli",
        ("validation_matched", "validation_mismatched"),
        columns=("premise", "hypothesis"),
        num_classes=3,
    ),
    "qqp": Task(
        "text", "glue/qqp", ("validation",), columns=("question1", "question2"), num_classes=2
    ),
    "qnli": Task(
        "text", "glue/qnli", ("validation",), columns=("question", "sentence"), num_classes=2
    ),
    "sst2": Task("text", "glue/sst2", ("validation",), columns=("sentence",), num_classes=2),
    "rte": Task(
        "text", "glue/rte", ("validation",), columns=("sentence1", "sentence2"), num_classes=2
    ),
    "image_folder": Task("images"),
    "tsv": Task("text"),
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
