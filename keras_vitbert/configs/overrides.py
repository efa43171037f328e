"""Reads a command's flags and its config, with `--config.KEY=VALUE`, from one command line."""

import dataclasses
from typing import Any

from pipelines.command_line import meant, one_line
from pipelines.flags import asks_for_help, parse_flags, parse_known_flags

# The help of `--accept_changes`, see `keras_vitbert.runs.run_settings.RunSettings`.
ACCEPT_CHANGES = (
    "what may differ from what the run in --output_dir began with, comma-separated, as named in "
    "the error, such as texts or config.seed; it is recorded"
)
# Flags of `pretrain` and `finetune`, see `keras_vitbert.runs.divergence`.
DIVERGENCE_FLAGS = (
    (
        "on_divergence",
        "stop",
        "what to do after a step whose loss, gradient or update is not finite or far too large, "
        "and which is not applied: stop, skip it, or restore the last good checkpoint's weights",
    ),
    ("max_divergences", 10, "the most steps to skip, or times to restore", 0),
)

DETERMINISTIC = (
    "deterministic",
    False,
    "use operations that give the same bits each time, which is slower on GPUs",
)
QUICK = (
    "quick",
    False,
    "shrink the config to a run of about ten minutes on a laptop; --config.KEY=VALUE still holds",
)


@dataclasses.dataclass(frozen=True)
class Given:
    """What the overrides of a command line say about a config.

    Attributes:
        keys: frozenset of str, the dotted keys that are given.
        parts: dict of a key to a float in (0, 1): numbers of steps given as a fraction of the run.
            In the config these keys keep the values that it came with.
        defaults: flat dict, the config before the overrides.
    """

    keys: frozenset[str] = frozenset()
    parts: dict[str, float] = dataclasses.field(default_factory=dict)
    defaults: dict[str, Any] = dataclasses.field(default_factory=dict)


def parse_with_config(
    argv, define_flags, choose_config, usage, config_help, parts=(), list_configs=None
):
    """Parses flags, and overrides of a config's values: `--config.KEY=VALUE`.

    Args:
        argv: list of str, without the program's name.
        define_flags: callable of the `absl.flags.FlagValues` to define flags on.
        choose_config: callable of (`FlagValues`, bool: whether `--help` was given) that returns the
            `ConfigDict` to override. `FlagValues.config` is the NAME of `--config=NAME`, or None.
        usage: str, printed above the flags by `--help`.
        config_help: str, the help text of `--config`.
        parts: collection of str, the keys of numbers of steps that may be given as a fraction of
            the run, a float in (0, 1).
        list_configs: callable of `FlagValues` that returns a dict of a heading to a config whose
            keys `--help` lists; those of the chosen config by default.

    Returns:
        (`FlagValues`, `ConfigDict`, `Given`).

    Raises:
        ValueError: a flag or a key is wrong.
        SystemExit: `--help` was given.
    """
    from absl import flags
    from ml_collections import config_flags

    values, overrides = flags.FlagValues(), flags.FlagValues()
    define_flags(values)
    flags.DEFINE_string("config", None, config_help, flag_values=values)
    rest = parse_known_flags(values, argv)
    for_help = asks_for_help(rest)
    config = choose_config(values, for_help)
    defaults = flatten(config)
    rest, shares = _without_parts(rest, parts)
    try:
        # This already reads the overrides.
        config_flags.DEFINE_config_dict(
            "config", config, flag_values=overrides, sys_argv=["", *rest]
        )
        if for_help:
            listed = list_configs(values) if list_configs else {"": config}
            values["config"].default_as_str = "; ".join(
                heading + ", ".join(f"{key}={value}" for key, value in flatten(one).items())
                for heading, one in listed.items()
            )
            parse_flags(values, rest, usage)
        for argument in rest:  # `overrides` would correct these to a key of the config
            is_value = _as_number(argument) is not None  # -1, after a key
            if argument.startswith("-") and not _is_override(argument) and not is_value:
                parse_flags(values, [argument], usage)
        parse_flags(overrides, rest, usage)
    except (KeyError, AttributeError) as error:
        raise ValueError(_unknown_key(rest, config)) from error
    except IndexError as error:
        names = (argument.partition("=")[0] for argument in rest)
        name = next(name for name in names if "[" in name)
        raise ValueError(
            f"{name}: cannot be set alone; give the whole value, --config.{_key(name)}=VALUE"
        ) from error
    except flags.Error as error:  # the value that is to be replaced has no type that can be read
        reason = one_line(error).partition(". ")[0]
        raise ValueError(f"--config={values.config}: {reason}; fix it in the file") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"--config: {one_line(error)}; --help lists the flags") from error
    keys = {_key(argument) for argument in rest if _is_override(argument)}
    return values, overrides.config, Given(frozenset({*keys, *shares}), shares, defaults)


def flatten(config, prefix=""):
    """A config as a flat dict with dotted keys, such as `optimizer.learning_rate`.

    Args:
        config: `ConfigDict` or nested dict.
        prefix: str, put before every key.
    """
    flat = {}
    for key, value in config.items():
        if hasattr(value, "items"):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def _is_override(argument):
    """Whether an argument changes a value of the config: `--config.KEY`, `--noconfig.KEY`."""
    return argument.lstrip("-").removeprefix("no").startswith("config.")


def _key(argument):
    """The dotted key of an override: that of `--config.grid[0]=1` is `grid`."""
    name = argument.lstrip("-").partition("=")[0].partition("[")[0]
    return name.removeprefix("no").removeprefix("config.")


def _without_parts(arguments, keys):
    """Takes numbers of steps that are fractions of the run out of arguments.

    Returns:
        (list of the other arguments, dict of key to float).
    """
    rest, found = [], {}
    waiting = iter(arguments)
    for argument in waiting:
        rest.append(argument)
        if not _is_override(argument) or (key := _key(argument)) not in keys:
            continue
        _, separate, text = argument.partition("=")
        if not separate:
            text = next(waiting, None)
            if text is None:
                continue
            rest.append(text)
        part = _as_part(text)
        if part is None:
            found.pop(key, None)  # the last one counts
        else:
            del rest[-1 if separate else -2 :]
            # An earlier number has no effect.
            found[key] = part
    return rest, found


def _as_part(text):
    """The float in (0, 1) that a text is, or None."""
    number = _as_number(text)
    return number if number is not None and 0 < number < 1 else None


def _as_number(text):
    try:
        return float(text)
    except ValueError:
        return None


def _unknown_key(overrides, config):
    known = list(flatten(config))
    keys = [argument.lstrip("-").partition("=")[0] for argument in overrides]
    unknown = [
        key.removeprefix("config.")
        for key in keys
        if key.startswith("config.") and key.removeprefix("config.") not in known
    ]
    key = unknown[0] if unknown else "?"
    return (
        f"--config.{key}: the config has no such key{meant(key, known, '--config.')}; "
        "config.json of a run lists them all"
    )
