"""Parses the command line of pre-training."""

import os

from keras_vitbert.configs.optimizers import with_own_values
from keras_vitbert.configs.overrides import parse_with_config
from keras_vitbert.configs.parts import OF_PRETRAINING, resolve_parts
from keras_vitbert.configs.pretraining import check_config, load_config
from keras_vitbert.configs.quick import quick_pretraining
from keras_vitbert.configs.variants import find_variant

CONFIG_HELP = (
    "sample, small, paper or FILE.py, optionally with :SIZE (sample, tiny, small, base, large); "
    "--config.KEY=VALUE overrides a value"
)


def parse(argv, define_flags, usage, needs_data=False):
    """Parses flags and the config with its overrides.

    Args:
        argv: list of str, without the program's name.
        define_flags: callable that takes the `absl.flags.FlagValues` to define flags on,
            including `tpu`, `variant`, `quick`, `image_teacher` and `initial_weights`.
        usage: str, printed above the flags by `--help`.
        needs_data: bool, whether the config must name its data.

    Returns:
        (`FlagValues`, `ConfigDict`).

    Raises:
        ValueError: a flag, a config or a key is wrong.
        SystemExit: `--help` was given.
    """
    values, config, given = parse_with_config(
        argv,
        define_flags,
        lambda values, for_help: load_config(config_name(values)),
        usage,
        CONFIG_HELP,
        OF_PRETRAINING,
    )
    with_own_values(config, given)
    variant = find_variant(values.variant)
    if values.quick or given.parts:
        check_config(config, conflicts=False)
    if values.quick:
        # What these flags open must fit the model, so the model stays as it is.
        kept = ("model.",) if values.initial_weights else ()
        kept += ("model.image_size",) if values.image_teacher else ()
        config = quick_pretraining(config, given, variant, kept)
    config = resolve_parts(config, given)
    check_config(config, variant, given, needs_data=needs_data)
    return values, config


def config_name(values):
    """The name of the config: by default `paper` on TPUs, else `sample`.

    Args:
        values: parsed `FlagValues`.
    """
    if values.config is not None:
        return values.config
    return "sample" if values.tpu is None else "paper"


def config_label(values):
    """A short name of the config, for the name of a folder.

    Args:
        values: parsed `FlagValues`.
    """
    return os.path.basename(config_name(values)).replace(".py", "").replace(":", "-")


def profiled_steps(text, steps):
    """Parses `--profile=START,STOP`.

    Args:
        text: str, the flag's value.
        steps: int, of the run.

    Returns:
        (first, last), ints, counted from 1; None without the flag.

    Raises:
        ValueError: they are not two steps of the run in order.
    """
    if not text:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"--profile={text}: must be START,STOP, two steps, such as 11,20")
    first, last = map(int, parts)
    if not 1 <= first <= last <= steps:
        raise ValueError(
            f"--profile={text}: must be START,STOP with 1 <= START <= STOP <= {steps}, the run's "
            "steps"
        )
    return first, last
