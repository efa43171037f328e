"""Reads a command's flags and its config, with `--config.KEY=VALUE`, from one command line."""

from collections.abc import Callable
from typing import Any

from keras_vitbert.configs.optimizers import OPTIONS
from keras_vitbert.configs.run import Experiment
from keras_vitbert.configs.sections import flatten, kind_of, parsed
from pipelines.flags import asks_for_help, parse_flags, parse_known_flags

# The help of `--accept_changes`, see `keras_vitbert.runs.identity.Identity`.
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


def parse_with_config(
    argv: list[str],
    define_flags: Callable[[Any], None],
    choose_config: Callable[[Any, bool], Experiment],
    usage: str,
    config_help: str,
    list_configs: Callable[[Any], dict[str, Experiment]] | None = None,
) -> tuple[Any, Experiment, set[str]]:
    """Parses flags, and overrides of a config's values: `--config.KEY=VALUE`.

    Args:
        argv: without the program's name.
        define_flags: defines flags on an `absl.flags.FlagValues`.
        choose_config: of (`FlagValues`, whether `--help` was given); returns the config to
            override. `FlagValues.config` is the NAME of `--config=NAME`, or None.
        usage: printed above the flags by `--help`.
        config_help: the help text of `--config`.
        list_configs: of `FlagValues`; returns configs by heading, whose fields `--help` lists;
            those of the chosen config by default.

    Returns:
        (`FlagValues`, the config, the fields that were given).

    Raises:
        ValueError: a flag, a field or a value is wrong, or a given field has no effect.
        SystemExit: `--help` was given.
    """
    from absl import flags

    values = flags.FlagValues()
    define_flags(values)
    flags.DEFINE_string("config", None, config_help, flag_values=values)
    rest = parse_known_flags(values, argv)
    for_help = asks_for_help(rest)
    config = choose_config(values, for_help)
    if for_help:
        listed = list_configs(values) if list_configs else {"": config}
        values["config"].default_as_str = "; ".join(
            heading + ", ".join(f"{field}={value}" for field, value in flatten(one).items())
            for heading, one in listed.items()
        )
    given, others = _overrides(rest, type(config))
    parse_flags(values, others, usage)
    if (name := given.get("optimizer.name")) in OPTIONS:
        own = {f"optimizer.{option}": value for option, value in OPTIONS[name].items()}
        config = config.with_values({**own, **given})
    else:
        config = config.with_values(given)
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
