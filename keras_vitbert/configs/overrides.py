"""Configs with overrides on the command line, and what is checked of any config."""

import difflib
import math

from pipelines.command_line import UserError, one_line, parse_flags


def parse_with_config(argv, config, define_flags, usage, config_help):
    """Parses flags, and overrides of a config's values: `--config.KEY=VALUE`.

    Args:
        argv: list of str, without the program's name and without `--config=NAME`.
        config: `ConfigDict`, which the overrides change.
        define_flags: callable that is given the `absl.flags.FlagValues` to define flags on.
        usage: str, printed above the flags by `--help`.
        config_help: str, what `--help` says of `--config`.

    Returns:
        (`FlagValues`, `ConfigDict`).

    Raises:
        UserError: a flag or a key is wrong.
        SystemExit: `--help` was asked for.
    """
    from absl import flags
    from ml_collections import config_flags

    values = flags.FlagValues()
    define_flags(values)
    try:
        # Reads the overrides already here.
        config_flags.DEFINE_config_dict(
            "config", config, config_help, flag_values=values, sys_argv=["", *argv]
        )
        # For --help, instead of a YAML dump.
        flat = flatten(config).items()
        values["config"].default_as_str = ", ".join(f"{key}={value}" for key, value in flat)
        parse_flags(values, argv, usage)
    except (KeyError, AttributeError) as error:
        raise UserError(_unknown_key(argv, config)) from error
    except (TypeError, ValueError) as error:
        raise UserError(f"--config: {one_line(error)}; --help lists the flags") from error
    return values, values.config


def flatten(config, prefix=""):
    """A config as a dict of dotted keys, such as `optimizer.learning_rate`."""
    flat = {}
    for key, value in config.items():
        if hasattr(value, "items"):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def check_types(flat, known):
    """Refuses keys that are missing or unknown, as in a user's file, and values of other types.

    Args:
        flat: dict, a flat config.
        known: dict, a flat config that is right.

    Raises:
        UserError: names the key.
    """
    for key, value in flat.items():
        if key not in known:
            raise UserError(f"the config holds {key}, which nothing reads{meant(key, known)}")
        kind = type(known[key])
        fits = isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
        if kind is float and type(value) is int:
            fits = True  # 1 where 1.0 is meant
        if kind is list and fits:
            fits = all(isinstance(item, int | float) for item in value)
        if not fits:
            wanted = "list of numbers" if kind is list else kind.__name__
            raise UserError(f"--config.{key}={value!r}: must be of type {wanted}")
        if kind is float and not math.isfinite(value):
            raise UserError(f"--config.{key}={value}: must be finite")


class Requirements:
    """Checks of a flat config; each names the key and the mend.

    Args:
        flat: dict of dotted keys to values.
    """

    def __init__(self, flat):
        self.flat = flat

    def require(self, condition, key, mend):
        """Raises `UserError` unless a condition holds."""
        if not condition:
            raise UserError(f"--config.{key}={self.flat[key]}: {mend}")

    def at_least(self, least, *keys):
        """Requires values of at least `least`."""
        for key in keys:
            self.require(self.flat[key] >= least, key, f"must be at least {least}")

    def one_of(self, key, known):
        """Requires one of the values in `known`."""
        self.require(self.flat[key] in known, key, f"must be one of {', '.join(known)}")

    def image_views(self, prefix, batch):
        """Checks how images are cut, augmented and mixed: the keys below `prefix`.

        Args:
            prefix: str, with the dot at its end.
            batch: str, the key of how many images a step takes.
        """
        area = self.flat[f"{prefix}crop_area"]
        self.require(
            len(area) == 2 and 0 < area[0] <= area[1] <= 1,
            f"{prefix}crop_area",
            "must be two numbers with 0 < first <= second <= 1",
        )
        operations, magnitude = (*self.flat[f"{prefix}randaugment"], -1, -1)[:2]
        self.require(
            len(self.flat[f"{prefix}randaugment"]) == 2
            and all(isinstance(value, int) for value in (operations, magnitude))
            and operations >= 0
            and 0 <= magnitude <= 30,
            f"{prefix}randaugment",
            "must be two integers, operations an image from 0 and a magnitude from 0 to 30",
        )
        self.at_least(0, f"{prefix}mixup", f"{prefix}cutmix")
        mixed = self.flat[f"{prefix}mixup"] or self.flat[f"{prefix}cutmix"]
        self.require(
            not mixed or self.flat[batch] % 2 == 0,
            batch,
            "must be even where images are mixed: two by two",
        )
        self.require(
            0 < self.flat[f"{prefix}central_crop"] <= 1,
            f"{prefix}central_crop",
            "must be above 0 and at most 1",
        )


def require_shares(config, key, replicas, mixed=False):
    """Refuses a batch that the replicas cannot share evenly.

    Args:
        config: `ConfigDict`.
        key: str, of the batch.
        replicas: int.
        mixed: bool, whether its images are mixed two by two.

    Raises:
        UserError: names the key and the mend.
    """
    unit = replicas * (2 if mixed else 1)
    if config[key] % unit:
        below = config[key] // unit * unit
        nearest = f"{below} or {below + unit}" if below else f"{unit}"
        pairs = ", twice as images are mixed two by two" if mixed else ""
        raise UserError(
            f"--config.{key}={config[key]}: must be a multiple of the number of replicas, "
            f"{replicas}{pairs}; the nearest are {nearest}"
        )


def meant(name, known, prefix=""):
    """A hint at the known name that is closest, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {prefix}{close[0]}?)" if close else ""


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
