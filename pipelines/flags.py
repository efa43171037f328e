"""Defines and parses a command's flags, and lists them for `--help`: the same way in each command.

This module imports absl only in its functions, so that a command prints its first line at once.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pipelines.command_line import EXIT_DONE, one_line

if TYPE_CHECKING:
    from absl import flags


def define_flags(*definitions: tuple, values: "flags.FlagValues | None" = None) -> Any:
    """Defines the flags of a command, in `values` or new `absl.flags.FlagValues`; returns these.

    A definition is a flag's name, default and help. The flag is a boolean if the default is a bool,
    a float or an int if bounds follow the help (the lowest value and optionally the highest), and a
    string otherwise.
    """
    from absl import flags

    flags.disclaim_key_flags()  # --help lists them as flags of the calling module
    values = flags.FlagValues() if values is None else values
    for name, default, text, *bounds in definitions:
        if bounds:
            define: Any = flags.DEFINE_float if isinstance(default, float) else flags.DEFINE_integer
            define(name, default, text, *bounds, flag_values=values)
        elif isinstance(default, bool):
            flags.DEFINE_boolean(name, default, text, flag_values=values)
        else:
            flags.DEFINE_string(name, default, text, flag_values=values)
    return values


def asks_for_help(argv: Iterable[str]) -> bool:
    """Whether `--help` is among the arguments."""
    return bool({"--help", "-h", "-help"} & set(argv))


def parse_flags(
    flag_values: Any, argv: list[str], usage: str, required: Iterable[str] = ()
) -> None:
    """Parses a command's flags; `--help` prints `usage` and them, and ends with status 0."""
    if asks_for_help(argv):
        print(usage.strip(), "", "Flags:", *_flag_lines(flag_values), sep="\n")
        raise SystemExit(EXIT_DONE)
    if strays := _parse(flag_values, argv):
        raise ValueError(f"unexpected argument {strays[0]!r}; --help lists the flags")
    for name in required:
        if not flag_values[name].value:
            raise ValueError(f"--{name} is missing; --help lists the flags")


def _flag_lines(flag_values: Any) -> Iterator[str]:
    """Describes the flags in the order of their definition; absl would sort them by name."""
    from absl import flags

    for flag in itertools.chain(*flag_values.flags_by_module_dict().values()):
        name = f"[no]{flag.name}" if flag.boolean else flag.name
        yield flags.text_wrap(f"--{name}: {flag.help}", indent="    ", firstline_indent="  ")
        if flag.default_as_str:
            yield flags.text_wrap(f"(default: {flag.default_as_str})", indent="    ")
        if flag.parser.syntactic_help:
            yield f"    ({flag.parser.syntactic_help})"


def parse_known_flags(flag_values: Any, argv: list[str]) -> list[str]:
    """Parses the known flags of a command, and returns the other arguments, `--help` included."""
    return _parse(flag_values, argv, known_only=True)


def _parse(flag_values: Any, argv: list[str], known_only: bool = False) -> list[str]:
    """Sets flags; returns the arguments that are not flags."""
    from absl import flags

    flag_values.set_gnu_getopt(True)  # a flag after a stray argument is still a flag
    try:
        strays = flag_values(["command", *argv], known_only)[1:]
    except flags.Error as error:
        raise ValueError(f"{one_line(error)}; --help lists the flags") from error
    for name, value in flag_values.flag_values_dict().items():
        if isinstance(value, float) and not math.isfinite(value):  # bounds do not refuse nan
            raise ValueError(f"--{name}={value}: must be finite")
    return strays
