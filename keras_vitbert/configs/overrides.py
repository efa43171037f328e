"""Reads a command's flags and its config, with `--config.KEY=VALUE`, from one command line."""

from pipelines.command_line import (
    UserError,
    asks_for_help,
    meant,
    one_line,
    parse_flags,
    parse_known_flags,
)

# The help of `--accept_changes`, see `keras_vitbert.runs.run_folder.RunFolder.begin`.
ACCEPT_CHANGES = (
    "what may differ from what the run in --output_dir began with, comma-separated, as its refusal "
    "names it, such as texts or config.seed; it is recorded"
)
# Flags of `pretrain` and `finetune`, see `keras_vitbert.runs.divergence`.
DIVERGENCE_FLAGS = (
    (
        "on_divergence",
        "stop",
        "what to do after a step whose loss, gradient or update is not finite or far too large, "
        "and which is not applied: stop, skip it, or restore the last good checkpoint's weights",
    ),
    ("max_divergences", 10, "how many steps are skipped, or how often is gone back, at most", 0),
)


def parse_with_config(argv, define_flags, choose_config, usage, config_help):
    """Parses flags, and overrides of a config's values: `--config.KEY=VALUE`.

    Args:
        argv: list of str, without the program's name.
        define_flags: callable that is given the `absl.flags.FlagValues` to define flags on.
        choose_config: callable of (`FlagValues`, bool: whether `--help` was given) that returns the
            `ConfigDict` to override. `FlagValues.config` is the NAME of `--config=NAME`, or None.
        usage: str, printed above the flags by `--help`.
        config_help: str, the help text of `--config`.

    Returns:
        (`FlagValues`, `ConfigDict`).

    Raises:
        UserError: a flag or a key is wrong.
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
    try:
        # This already reads the overrides.
        config_flags.DEFINE_config_dict(
            "config", config, flag_values=overrides, sys_argv=["", *rest]
        )
        if for_help:
            listed = ", ".join(f"{key}={value}" for key, value in flatten(config).items())
            values["config"].default_as_str = listed
            parse_flags(values, rest, usage)
        for argument in rest:  # which `overrides` would correct to a key of the config
            if argument.startswith("-") and not _is_override(argument):
                parse_flags(values, [argument], usage)
        parse_flags(overrides, rest, usage)
    except (KeyError, AttributeError) as error:
        raise UserError(_unknown_key(rest, config)) from error
    except (TypeError, ValueError) as error:
        raise UserError(f"--config: {one_line(error)}; --help lists the flags") from error
    return values, overrides.config


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
