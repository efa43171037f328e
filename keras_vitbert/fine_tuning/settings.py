"""From the command line to a config of fine-tuning."""

import json
import os
from collections.abc import Callable
from typing import Any

from keras_vitbert.configs.command import parse_with_config
from keras_vitbert.configs.fine_tuning import FineTuning, get_config
from keras_vitbert.fine_tuning import tasks
from keras_vitbert.trained.places import require_place
from pipelines.tasks.tables import SUFFIXES

# Flags that name a checkpoint and a task's data.
INPUT_FLAGS = (
    (
        "checkpoint",
        "",
        "a run of pretrain or finetune, a preset, a BERT or ViT of another project; or rand, "
        "for random weights",
    ),
    (
        "task",
        "",
        f"one of {', '.join(tasks.TASKS)}; for your own data it is detected",
    ),
    (
        "data_dir",
        "",
        "the data: a folder of images (train/CLASS/*.jpg, perhaps validation/ and test/, or "
        "CLASS/*.jpg), of tables (train.csv, ...), a saved data set, or TFDS' data folder",
    ),
    (
        "train",
        "",
        f"the training examples: a table ({', '.join(SUFFIXES)}) of texts or of images, or a "
        "folder of images",
    ),
    ("validation", "", "likewise, to pick settings on; reported too"),
    ("test", "", "likewise, to report on"),
    (
        "architecture",
        "",
        "for rand: a checkpoint whose architecture to use, or a config of pretrain (default: "
        "paper)",
    ),
    ("vocabulary", "", "a vocabulary file, for text if the checkpoint has none"),
    ("download", False, "let TFDS download missing data"),
    ("skip_damaged", 0, "how many damaged rows of tables may be skipped", 0),
)
CONFIG_HELP = "--config.KEY=VALUE changes a value of the task's config"


def parse(
    argv: list[str], define_flags: Callable[[Any], None], usage: str
) -> tuple[Any, FineTuning, set[str]]:
    """Parses flags and the overrides of the task's config.

    Args:
        argv: without the program's name.
        define_flags: defines flags on an `absl.flags.FlagValues`, `INPUT_FLAGS` among them.
        usage: printed above the flags by `--help`.

    Returns:
        (`FlagValues`, the config, the fields that were given).

    Raises:
        ValueError: a flag or a field is wrong, the task is unknown, or there is no checkpoint.
        SystemExit: `--help` was given.
    """

    def choose(values, for_help):
        if values.config is not None:
            raise ValueError("--config: a task has its own config; change its values")
        name = values.task or ("cifar10" if for_help else "")
        if not name and values["checkpoint"].value and getattr(values, "evaluate_only", False):
            name = _recorded_task(values.checkpoint)
        task = tasks.choose_task(name, values.data_dir, files_of(values))
        return get_config(task.name, task.kind)

    def listed(values):
        if values.task:
            return {"": choose(values, True)}
        kinds = {task.kind: task for task in tasks.TASKS.values()}
        return {f"of {kind}: ": get_config(task.name, kind) for kind, task in kinds.items()}

    values, config, given = parse_with_config(
        argv, define_flags, choose, usage, CONFIG_HELP, listed
    )
    if not values.checkpoint:
        raise ValueError("--checkpoint is missing; give a pre-trained model, or rand")
    require_place(values.checkpoint)
    return values, config, given


def files_of(values: Any) -> dict[str, str]:
    """The paths of single splits that the flags name."""
    given = {split: values[split].value for split in ("train", "validation", "test")}
    return {split: path for split, path in given.items() if path}


def inputs_of(values: Any) -> dict[str, Any]:
    """What the flags name to be read: fields of `keras_vitbert.fine_tuning.opening.Inputs`."""
    names = ("checkpoint", "architecture", "vocabulary", "data_dir", "download", "skip_damaged")
    return {name: values[name].value for name in names} | {"files": files_of(values)}


def _recorded_task(folder: str) -> str:
    """The task of a local run of fine-tuning; empty if that cannot be read."""
    try:
        with open(os.path.join(folder, "config.json"), "rb") as file:
            return str(json.load(file)["experiment"]["task"])
    except (OSError, ValueError, KeyError, TypeError):  # reported when the run is opened
        return ""
