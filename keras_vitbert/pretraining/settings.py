"""Parses the command line of pre-training."""

import os
from collections.abc import Callable
from typing import Any

from keras_vitbert.configs.command import parse_with_config
from keras_vitbert.configs.loading import load_config
from keras_vitbert.configs.pretraining import Pretraining

CONFIG_HELP = (
    "sample, small, paper, quick or FILE.py, optionally with :SIZE (sample, tiny, small, base, "
    "large); --config.KEY=VALUE overrides a value"
)


def parse(
    argv: list[str], define_flags: Callable[[Any], None], usage: str
) -> tuple[Any, Pretraining]:
    """Parses flags and the config with its overrides.

    Args:
        argv: without the program's name.
        define_flags: defines flags on an `absl.flags.FlagValues`, `tpu` and `variant` among them.
        usage: printed above the flags by `--help`.

    Raises:
        ValueError: a flag, a config or a field is wrong.
        SystemExit: `--help` was given.
    """

    def choose(values, for_help):
        return load_config(config_name(values)).with_values({"variant": values.variant})

    values, config, _ = parse_with_config(argv, define_flags, choose, usage, CONFIG_HELP)
    return values, config


def config_name(values: Any) -> str:
    """The name of the config: by default `paper` on TPUs, else `sample`."""
    if values.config is not None:
        return values.config
    return "sample" if values.tpu is None else "paper"


def config_label(values: Any) -> str:
    """A short name of the config, for the name of a folder."""
    return os.path.basename(config_name(values)).replace(".py", "").replace(":", "-")


def profiled_steps(text: str, steps: int) -> tuple[int, int] | None:
    """Parses `--profile=START,STOP`: steps from 1, or None without the flag.

    Raises:
        ValueError: they are not two steps of the run in order.
    """
    if not text:
        return None
    numbers = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
    if len(numbers) != 2 or not 1 <= numbers[0] <= numbers[1] <= steps:
        raise ValueError(f"--profile={text}: must be START,STOP, 1 <= START <= STOP <= {steps}")
    return numbers[0], numbers[1]
