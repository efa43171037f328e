"""`results.json`: the result of every finished unit, with all that made it.

A unit that is listed there is finished, whether or not its folder still exists. Each is first
written to its own file, `OUTPUT/NAME/unit.json`, so that machines that share a folder do not write
the same file. Each command that opens the results collects these files.
"""

import json
import os
import shlex

from keras_vitbert.configs.sections import flatten
from keras_vitbert.runs.run_lock import held_at_last
from keras_vitbert.runs.versions import commit, versions
from pipelines.files import json_object, write_atomically
from pipelines.status import say

SCHEMA = 1
UNIT = "unit.json"
LOCKS = "locks"  # a folder for each unit, and for the file of results
DONE, DIVERGED = "done", "diverged"
_KEYS = {"digest", "command", "seed", "outcome", "commit"}  # of every entry
_OF_THE_RUN = ("seconds", "command", "versions", "commit")  # these are not results
_OUTPUT = "OUTPUT"  # stands for the folder of all units in the commands


class Results:
    """The results of a scale.

    Args:
        path: str, of `results.json`; it need not exist yet.
        scale: str.
        output: str, the folder of the units.

    Attributes:
        data: dict of a kind of data to its SHA-256.
        units: dict of a unit's name to its entry.

    Raises:
        ValueError: it is damaged, or belongs to another scale.
    """

    def __init__(self, path, scale, output):
        self.path, self.scale, self.output = path, scale, output
        self.data, self.units = {}, {}
        if os.path.exists(path):
            content = _read(path)
            if content.get("schema") != SCHEMA or content.get("scale") != scale:
                raise ValueError(
                    f"{path}: of --scale={content.get('scale')}, schema {content.get('schema')}; "
                    f"give another --results for --scale={scale}, schema {SCHEMA}"
                )
            self.data, self.units = _parts(path, content)

    def require_data(self, data):
        """Records the data of the units, or refuses data that differ from those of finished units.

        Args:
            data: dict of a kind of data to its SHA-256.

        Raises:
            ValueError: it is not the same.
        """
        for kind, digest in data.items():
            if self.data.setdefault(kind, digest) != digest:
                raise ValueError(
                    f"{self.path}: its results were made with other {kind}; give the same, or "
                    "another --results and --output_dir"
                )

    def collect(self, units):
        """Collects the units finished since, here or on another machine, and writes the file.

        Args:
            units: list of `Unit`.

        Raises:
            ValueError: a finished unit was made with other settings.
        """
        before = dict(self.units)
        for unit in units:
            path = os.path.join(self.output, unit.name, UNIT)
            if unit.name not in self.units and os.path.exists(path):
                entry = _read(path)
                _require(path, _is_entry(entry))
                self.units[unit.name] = entry
            entry = self.units.get(unit.name)
            if entry is not None and entry["digest"] != unit.digest():
                raise ValueError(
                    f"{self.path}: {unit.name} was made by other settings ({entry['command']}); "
                    "give another --results and --output_dir"
                )
        if self.units != before:
            self._write()

    def finish(self, unit, rate, outcome, numbers):
        """Writes the result of a unit; says so if it is not the one already listed.

        A unit that is listed is only made again because others need its folder. Its result stays.

        Args:
            unit: `Unit`.
            rate: float or None, see `Unit.command`.
            outcome: str, `DONE` or `DIVERGED`.
            numbers: dict, what is kept of its summary, see `reproducing.numbers_of`.
        """
        entry = {
            "digest": unit.digest(),
            "command": shlex.join(["python", *unit.command(_OUTPUT, f"{_OUTPUT}/data", rate)]),
            "seed": unit.seed,
            "outcome": outcome,
            **numbers,
            "versions": versions(),
            "commit": commit(),
        }
        if unit.name in self.units and (found := differences(self.units[unit.name], entry)):
            say(f"{unit.name} was made again, with other numbers: {'; '.join(found)}")
        folder = os.path.join(self.output, unit.name)
        os.makedirs(folder, exist_ok=True)  # a unit that did not run has none
        write_atomically(os.path.join(folder, UNIT), _json(entry))

    def is_finished(self, unit):
        """Whether a unit has written its file, collected or not: bool."""
        return os.path.exists(os.path.join(self.output, unit.name, UNIT))

    def _write(self):
        """Writes the file, with what processes with other flags have written there meanwhile."""
        locks = os.path.join(self.output, LOCKS, "results")
        os.makedirs(locks, exist_ok=True)
        with held_at_last(locks, "writes results"):
            if os.path.exists(self.path):
                data, units = _parts(self.path, _read(self.path))
                self.data, self.units = data | self.data, units | self.units
            content = {
                "schema": SCHEMA,
                "scale": self.scale,
                "data": self.data,
                "units": dict(sorted(self.units.items())),
            }
            write_atomically(self.path, _json(content))


def differences(first, second):
    """How two runs of a unit differ, apart from their time, command, versions and commit.

    Args:
        first, second: dict, entries of `Results.units`.

    Returns:
        list of str; empty if all are the same.
    """
    flat = [
        flatten({k: v for k, v in entry.items() if k not in _OF_THE_RUN})
        for entry in (first, second)
    ]
    return [
        f"{key} was {flat[0].get(key)}, is {flat[1].get(key)}"
        for key in sorted(flat[0].keys() | flat[1].keys())
        if flat[0].get(key) != flat[1].get(key)
    ]


def _parts(path, content):
    """The data and the units in the content of `results.json`: two dicts."""
    data, units = content.get("data"), content.get("units")
    _require(path, isinstance(data, dict) and isinstance(units, dict))
    _require(path, all(map(_is_entry, units.values())))
    return dict(data), dict(units)


def _is_entry(entry):
    return isinstance(entry, dict) and _KEYS <= entry.keys()


def _require(path, is_whole):
    if not is_whole:
        raise ValueError(f"{path}: cannot be read (keys are missing); remove it or restore it")


def _read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json_object(file.read())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); remove it or restore it") from error


def _json(content):
    return json.dumps(content, indent=1) + "\n"
