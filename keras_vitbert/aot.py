"""Proves a run before you pay for a TPU: compiles its own steps with the TPU's compiler.

    python -m keras_vitbert.aot --tpu=v3-128 [--config=paper|sample|FILE.py] [--variant=vitbert]
                                [--compare=joint] [--programs=train] [--json=FILE]
                                [--config.KEY=VALUE ...]
    python -m keras_vitbert.aot --tpu=v3-8 --task=cifar10|...|rte [--architecture=paper|DIR] [...]
    python -m keras_vitbert.aot MODULE:FUNCTION --tpu=v3-8 [...]       # a Keras model of your own

It needs no TPU, data or network, but the extra `[aot]`. It prints whether the programs of a run
(training, mask update, validation; with teachers, dropout, metrics and clipping) fit into memory,
what they compute, move and sum, and the least time of a step. Exit status: 0 if the run fits, 2 if
it does not or if a flag is wrong.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from keras_vitbert.configs.devices import Devices
from keras_vitbert.configs.fine_tuning import FineTuning, dotted
from keras_vitbert.configs.pretraining import Pretraining
from keras_vitbert.experiments.fine_tuning.tasks import find_config, find_task
from keras_vitbert.experiments.flags import (
    PRETRAINING_HELP,
    choose_pretraining,
    config_label,
    parse_with_config,
    refuse_given,
)
from keras_vitbert.extras.ahead_of_time import aot_compile
from keras_vitbert.extras.ahead_of_time.compiler import check_installed
from pipelines import flags
from pipelines.command_line import choose_backend, load_tensorflow, run
from pipelines.files import check_output_file, write_atomically
from tpu.flags import BACKEND
from tpu.slices import find_slice

if TYPE_CHECKING:
    from absl.flags import FlagValues

_COMMON = (
    ("tpu", "", "the accelerator type, such as v3-128"),
    ("programs", "", "which programs, comma-separated, such as train (default: all)"),
    ("json", "", "a file to write the whole outcome to"),
)
_STEPS_OF_EPOCHS = 1_000  # for a text task, whose real number of steps depends on the data


def define_flags(values: FlagValues) -> None:
    """Defines the flags other than `--config`, on an `absl.flags.FlagValues`."""
    flags.define_flags(
        *_COMMON,
        BACKEND,
        ("variant", "vitbert", "the variant of pre-training"),
        ("compare", "", "another variant, to compare the training step with"),
        ("task", "", "prove a fine-tuning on this task instead of a pre-training"),
        ("architecture", "", "of a task: a run's folder, or a config of pretrain (default: paper)"),
        ("num_classes", 0, "of a task with your own data", 0),
        values=values,
    )


def main(argv: list[str]) -> dict[str, Any]:
    """Runs the command; returns the content of `--json`."""
    if argv and not argv[0].startswith("-"):
        return _own(argv[0], argv[1:])
    values, config, _ = parse_with_config(
        argv, define_flags, _choose_config, __doc__ or "", PRETRAINING_HELP
    )
    on_jax = choose_backend(values.backend) == "jax"
    slice_, only = find_slice(values.tpu), _only(values)
    devices = Devices(on_tpu=True, replicas=slice_.replicas, shared=True, on_jax=on_jax)
    unused = ["compare"] if values.task or (only and "train" not in only) else []
    unused += [] if values.task else ["architecture", "num_classes"]
    refuse_given(values, unused, "with the other flags")
    compared = None
    if isinstance(config, FineTuning):
        config = _fine_tuning(values, config, devices)
        what = f"fine-tuning on {config.task_names}, {config.dtype}"
    else:
        if values.compare:
            compared = _pretraining(config, values.compare, devices)
        config = _pretraining(config, values.variant, devices)
        what = f"{values.variant}, {config_label(values)}, {config.dtype}"
    sharding = config.sharding if on_jax else ""
    what += f", JAX, {sharding}" if on_jax else ""
    _load(values, values.config or "", values.architecture)
    from keras_vitbert.experiments.fine_tuning.pretrained import RANDOM, open_pretrained
    from keras_vitbert.extras.ahead_of_time import programs

    if isinstance(config, FineTuning):
        num_classes = _classes(values, config)
        pretrained = open_pretrained(RANDOM, values.architecture)
        build = functools.partial(programs.fine_tuning_programs, config, pretrained, num_classes)
    else:
        build = functools.partial(programs.pretraining_programs, config)
    outcome = aot_compile.prove(what, build, slice_, sharding, only)
    train = outcome["programs"].get("train", {"fits": False})
    if compared is not None and train["fits"]:
        build = functools.partial(programs.pretraining_programs, compared)
        outcome["compared"] = aot_compile.compare(train, values.compare, build, slice_, sharding)
    return _finish(values, outcome)


def _own(name: str, argv: list[str]) -> dict[str, Any]:
    """The proof of the user's own model or step."""
    values = flags.define_flags(*_COMMON)
    flags.parse_flags(values, argv, __doc__ or "", required=("tpu",))
    slice_ = find_slice(values.tpu)
    _load(values, name.partition(":")[0].replace(".", "/") + ".py")
    from keras_vitbert.extras.ahead_of_time.programs import own_programs

    build = functools.partial(own_programs, name)
    return _finish(values, aot_compile.prove(name, build, slice_, only=_only(values)))


def _load(values: FlagValues, *inputs: str) -> None:
    check_installed()
    load_tensorflow()
    if values.json:
        check_output_file(values.json, filter(os.path.isfile, inputs))


def _finish(values: FlagValues, outcome: dict[str, Any]) -> dict[str, Any]:
    print(aot_compile.table(outcome))
    if values.json:
        write_atomically(values.json, json.dumps(outcome, indent=2))
    if not outcome["memory"]["fits"]:
        raise ValueError(
            f"--tpu={values.tpu}: it does not fit; use a smaller batch, a smaller model, or a "
            "larger TPU"
        )
    return outcome


def _only(values: FlagValues) -> tuple[str, ...]:
    """The names in `--programs`. Which of them a run has is known when it is built."""
    return tuple(filter(None, values.programs.split(",")))


def _choose_config(values: FlagValues) -> Pretraining | FineTuning:
    if not values.task:
        return choose_pretraining(values)
    return find_config(values.task)


def _pretraining(config: Pretraining, variant: str, devices: Devices) -> Pretraining:
    config = config.with_values({"variant": variant}).with_sizes().as_variant(variant)
    return config.for_devices(devices)


def _classes(values: FlagValues, config: FineTuning) -> list[int]:
    """The number of classes of each task; 0 where it is not known."""
    names = [settings.task for settings in config.tasks.values()]
    return [values.num_classes or find_task(name).num_classes for name in names]


def _fine_tuning(values: FlagValues, config: FineTuning, devices: Devices) -> FineTuning:
    if not all(_classes(values, config)):
        raise ValueError(
            f"--num_classes: must be given, as those of {config.task_names} are your own"
        )
    sizes = {dotted(section, name) for section in config.tasks for name in ("image_size", "batch")}
    if fields := sizes.intersection(config.open_fields()):
        raise ValueError(f"{', '.join(sorted(fields))}: must be given, as your images decide them")
    config.check_batch(devices.replicas)
    steps = config.steps or _STEPS_OF_EPOCHS
    return config.for_devices(devices).with_values({"steps": steps})


if __name__ == "__main__":
    sys.exit(run(main))
