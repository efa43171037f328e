"""The units that are run, one command each, and what each of them needs.

A unit is a call of one of the project's commands. Its folder has its name. In its arguments,
`{NAME}` stands for the folder of another unit, and `{data}` for that of prepared data.
"""

import dataclasses
import hashlib
import json
import os
import re

_FOLDER = re.compile(r"\{([^{}]+)\}")
DATA = "data"
RATE = "--config.optimizer.learning_rate"


@dataclasses.dataclass(frozen=True)
class Unit:
    """A command that is run once.

    Attributes:
        name: str, such as `pretrain/vitbert-s0`: its folder, and its key in `results.json`.
        module: str, such as `keras_vitbert.pretrain`.
        arguments: tuple of str, those that determine the result, without the folder.
        seed: int.
        rate_of: str, the unit whose learning rate it takes, or empty.
        others: tuple of str, arguments that do not: devices, and where the data are.
        settings: tuple of (str, value), the content of a config that the arguments name.
        folder_flag: str, the flag of its folder.
        has_summary: bool, whether it writes a `summary.json`.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    seed: int
    rate_of: str = ""
    others: tuple[str, ...] = ()
    settings: tuple[tuple[str, object], ...] = ()
    folder_flag: str = "output_dir"
    has_summary: bool = True

    @property
    def needs(self):
        """The names of the units whose folders it reads: tuple of str."""
        found = (name for argument in self.arguments for name in _FOLDER.findall(argument))
        return tuple(name for name in dict.fromkeys(found) if name != DATA)

    def digest(self):
        """A digest of all that makes the unit, except the data: str.

        The units that it needs have digests of their own.
        """
        made_of = [self.module, *self.arguments, self.rate_of, *map(repr, self.settings)]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]

    def command(self, output, data, rate=None):
        """The command that is run.

        Args:
            output: str, the folder of all units.
            data: str, the folder of prepared data.
            rate: float or None, the learning rate of the unit `rate_of`, where it is known.

        Returns:
            list of str, without `python`.
        """

        def placed(match):
            return data if match[1] == DATA else os.path.join(output, match[1])

        arguments = [_FOLDER.sub(placed, argument) for argument in self.arguments]
        if self.rate_of:
            picked = f"{rate:g}" if rate is not None else f"(that of {self.rate_of})"
            arguments.append(f"{RATE}={picked}")
        folder = f"--{self.folder_flag}={os.path.join(output, self.name)}"
        return ["-m", self.module, *arguments, *self.others, folder]


def ordered(units, wanted):
    """The units that are wanted and all that they need, dependencies first.

    Args:
        units: dict of a name to a `Unit`.
        wanted: iterable of str, names.

    Returns:
        list of `Unit`.
    """
    found = {}

    def visit(name):
        if name not in found:
            unit = units[name]
            for need in (*unit.needs, *([unit.rate_of] if unit.rate_of else [])):
                visit(need)
            found[name] = unit

    for name in wanted:
        visit(name)
    return list(found.values())
