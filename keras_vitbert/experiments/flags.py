"""What the commands share: flags, and a config with `--config.KEY=VALUE` from one command line.

A command defines its own flags; `parse_pretraining` and `parse_fine_tuning` return them with the
experiment. Nothing here loads TensorFlow, so that `--help` and a bad flag answer at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from keras_vitbert.configs.fine_tuning import IMAGES, TEXTS, FineTuning
from keras_vitbert.configs.loading import load_config
from keras_vitbert.configs.optimizers import OPTIONS
from keras_vitbert.configs.pretraining import Pretraining
from keras_vitbert.configs.run import Experiment
from keras_vitbert.configs.sections import flatten, kind_of, parsed
from keras_vitbert.experiments.fine_tuning import tasks
from keras_vitbert.trained.places import require_place
from pipelines import flags
from pipelines.flags import asks_for_help, parse_flags, parse_known_flags
from pipelines.tasks.tables import SUFFIXES
from tpu.flags import define_flags as define_tpu_flags

if TYPE_CHECKING:
    from absl.flags import FlagValues

Config = TypeVar("Config", bound=Experiment)

# Of commands that train.
RUN_FLAGS = (
    ("dry_run", False, "only print what was found and would be done"),
    (
        "accept_changes",
        "",
        "what may differ from what the run in --output_dir began with, comma-separated, as named "
        "in the error, such as texts or config.seed; it is recorded",
    ),
    (
        "deterministic",
        False,
        "use operations that give the same bits each time, which is slower on GPUs",
    ),
    (
        "on_divergence",
        "stop",
        "what to do after a step whose loss, gradient or update is not finite or far too large, "
        "and which is not applied: stop, skip it, or restore the last good checkpoint's weights",
    ),
    ("max_divergences", 10, "the most steps to skip, or times to restore", 0),
)
# Of commands that open a checkpoint and the data of a task.
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
        f"one of {', '.join(tasks.TASKS)}, or one on images and one on texts, comma-separated; for "
        "your own data it is detected",
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
PRETRAINING_HELP = (
    "sample, small, paper, quick or FILE.py, optionally with :SIZE (sample, tiny, small, base, "
    "large); --config.KEY=VALUE overrides a value"
)


def parse_pretraining(
    argv: list[str], define_flags: Callable[[FlagValues], None], usage: str
) -> tuple[FlagValues, Pretraining]:
    """Parses the flags, `tpu` and `variant` among them, and the config of a pre-training."""
    values, config, _ = parse_with_config(
        argv, define_flags, choose_pretraining, usage, PRETRAINING_HELP
    )
    return values, config


def choose_pretraining(values: FlagValues) -> Pretraining:
    """The config that `--config` and `--variant` name."""
    return load_config(config_name(values)).with_values({"variant": values.variant})


def parse_fine_tuning(
    argv: list[str], define_flags: Callable[[FlagValues], None], usage: str
) -> tuple[FlagValues, FineTuning, set[str]]:
    """Parses the flags, `INPUT_FLAGS` among them, and the config of a fine-tuning or a probe."""
    about = "--config.KEY=VALUE changes a value of the task's config"
    values, config, given = parse_with_config(
        argv, define_flags, _choose_fine_tuning, usage, about, _list_fine_tuning
    )
    if not values.checkpoint:
        raise ValueError("--checkpoint is missing; give a pre-trained model, or rand")
    require_place(values.checkpoint)
    return values, config, given


def _choose_fine_tuning(values: FlagValues) -> FineTuning:
    """The config of the task that is named, recorded or that of the data."""
    if values.config is not None:
        raise ValueError("--config: a task has its own config; change its values")
    name = values.task
    if not name and values.checkpoint and getattr(values, "evaluate_only", False):
        name = _recorded_task(values.checkpoint)
    own = {kind: getattr(values, kind, "") for kind in (IMAGES, TEXTS)}
    if own := {kind: place for kind, place in own.items() if place}:
        others = ("task", "data_dir", "train", "validation", "test")
        refuse_given(values, others, f"beside --{next(iter(own))}")
        name = ",".join(own)
    return tasks.find_config(name or tasks.choose_task(values.data_dir, _files(values)))


def _list_fine_tuning(values: FlagValues) -> dict[str, FineTuning]:
    """The configs that `--help` lists, by heading: of the task, else of each kind."""
    if values.task:
        return {"": _choose_fine_tuning(values)}
    kinds = {"images": IMAGES, "text": TEXTS, "both": f"{IMAGES},{TEXTS}"}
    return {f"of {kind}: ": tasks.find_config(task) for kind, task in kinds.items()}


def config_name(values: FlagValues) -> str:
    """The name of a pre-training config: by default `paper` on TPUs, else `sample`."""
    if values.config is not None:
        return values.config
    return "sample" if values.tpu is None else "paper"


def config_label(values: FlagValues) -> str:
    """A short name of a pre-training config, for the name of a folder."""
    return os.path.basename(config_name(values)).replace(".py", "").replace(":", "-")


def define(values: FlagValues, *definitions: tuple) -> None:
    """Defines the flags of a command, and those of devices, see `pipelines.flags`."""
    flags.define_flags(*definitions, values=values)
    define_tpu_flags(values)


def run_options(values: FlagValues) -> dict[str, Any]:
    """What `RUN_FLAGS` and the flags of devices name: arguments of `open_run`."""
    names = ("deterministic", "on_divergence", "max_divergences")
    accepted = tuple(values.accept_changes.split(","))
    return (
        devices_of(values) | {name: values[name].value for name in names} | {"accepted": accepted}
    )


def devices_of(values: FlagValues) -> dict[str, Any]:
    """What the flags of devices name: arguments of `open_machine`."""
    return {name: values[name].value for name in ("tpu", "tpu_address", "wait_seconds")}


def inputs_of(values: FlagValues, config: FineTuning | None = None) -> dict[str, Any]:
    """What `INPUT_FLAGS` name: fields of `keras_vitbert.experiments.fine_tuning.inputs.Inputs`.

    With the config of a training, own data are read, so that bad ones are refused at once.
    """
    names = ["checkpoint", "architecture", "vocabulary", "data_dir", "download", "skip_damaged"]
    names += [name for name in (IMAGES, TEXTS) if name in values]
    given: dict[str, Any] = {name: values[name].value for name in names}
    files, own = _files(values), {}
    for section, settings in config.tasks.items() if config and not values.download else ():
        place = given.get(settings.task) or values.data_dir
        where = place, files, values.skip_damaged, bool(section)
        own[section] = tasks.read_own(settings, *where)
    return {**given, "files": files, "own": own}


def refuse_given(values: FlagValues, names: Iterable[str], reason: str) -> None:
    """Refuses flags that have no effect, for a reason such as `without --text`, but are given."""
    for name in names:
        if values[name].value != values[name].default:
            raise ValueError(f"--{name} has no effect {reason}; leave it out")


def _files(values: FlagValues) -> dict[str, str]:
    """The paths of single splits that the flags name."""
    given = {split: values[split].value for split in ("train", "validation", "test")}
    return {split: path for split, path in given.items() if path}


def _recorded_task(folder: str) -> str:
    """The task of a local run of fine-tuning; empty if that cannot be read."""
    try:
        with open(os.path.join(folder, "config.json"), "rb") as file:
            experiment = json.load(file)["experiment"]
            if experiment["kind"] == "both":
                return f"{experiment['image']['task']},{experiment['text']['task']}"
            return str(experiment["task"])
    except (OSError, ValueError, KeyError, TypeError):  # reported when the run is opened
        return ""


def parse_with_config(
    argv: list[str],
    define_flags: Callable[[FlagValues], None],
    choose_config: Callable[[FlagValues], Config],
    usage: str,
    config_help: str,
    list_configs: Callable[[FlagValues], Mapping[str, Experiment]] | None = None,
) -> tuple[FlagValues, Config, set[str]]:
    """Parses flags, and overrides of a config's values: `--config.KEY=VALUE`.

    `choose_config` returns the config to override; `values.config` is the NAME of `--config=NAME`,
    or None. `--help`, which ends the program, lists the fields of `list_configs`, by heading, or
    those of the chosen config. A field that is given and has no effect is refused.

    Returns:
        (`FlagValues`, the config, the fields that were given).
    """
    values = flags.define_flags()
    define_flags(values)
    flags.define_flags(("config", None, config_help), values=values)
    rest = parse_known_flags(values, argv)
    if asks_for_help(rest):
        listed = list_configs(values) if list_configs else {"": choose_config(values)}
        values["config"].default_as_str = "; ".join(
            heading + ", ".join(f"{field}={value}" for field, value in flatten(one).items())
            for heading, one in listed.items()
        )
        parse_flags(values, rest, usage)  # which ends the program
    config = choose_config(values)
    given, others = _overrides(rest, type(config))
    parse_flags(values, others, usage)
    # An optimiser that is named brings its own usual values.
    options = OPTIONS.get(given.get("optimizer.name", ""), {})
    config = config.with_values({f"optimizer.{name}": x for name, x in options.items()} | given)
    for field, reason in config.unread().items():
        if field in given:
            raise ValueError(f"{field}: has no effect with {reason}; leave it out")
    return values, config, set(given)


def _overrides(arguments: list[str], config: type[Experiment]) -> tuple[dict[str, Any], list[str]]:
    """Splits arguments into values of fields, of which the last one counts, and others."""
    given, others = {}, []
    waiting = iter(arguments)
    for argument in waiting:
        name, equals, text = argument.partition("=")
        dashes, field = name[: len(name) - len(name.lstrip("-"))], name.lstrip("-")
        negated = field.startswith("noconfig.")
        if not dashes or not (negated or field.startswith("config.")):
            others.append(argument)
            continue
        field = field.partition(".")[2]
        kind = kind_of(config, field)
        if negated and (equals or kind is not bool):
            raise ValueError(f"{argument}: only a True or False is turned off in this way")
        if not equals:
            text = str(not negated) if kind is bool else next(waiting, "")
        given[field] = parsed(field, text, kind)
    return given, others
