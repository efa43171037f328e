"""`results.json`: the result of every finished run, with all that made it.

A run that is listed there is finished, whether or not its folder still exists.
"""

import json
import os
from collections.abc import Iterable

from keras_vitbert.reproduction.plan import Run
from pipelines.files import json_object, write_atomically
from pipelines.status import say

DONE, DIVERGED = "done", "diverged"
_OF_THE_RUN = {"seconds", "settings", "command", "versions", "commit"}  # these are not results


class Results:
    """The results of a scale.

    Args:
        path: of the file.
        scale: its name.
        output: the folder of all runs, absolute.

    Attributes:
        data: the SHA-256 of each kind of data.
        units: by name of a run what is known of it.

    Raises:
        ValueError: the file cannot be read, or belongs to another scale.
    """

    def __init__(self, path: str, scale: str, output: str):
        self.path, self.scale, self.output = path, scale, output
        self.data: dict[str, str] = {}
        self.units: dict[str, dict] = {}
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                try:
                    content = json_object(file.read())
                    if content["scale"] != scale:
                        raise ValueError(f"has the results of the scale {content['scale']}")
                    self.data, self.units = content["data"], content["units"]
                except (ValueError, KeyError) as error:
                    raise ValueError(f"{path}: cannot be used: {error}") from error

    def require_data(self, data: dict[str, str]) -> None:
        """Refuses other data than those of finished runs, by the SHA-256 of each kind of data."""
        for kind, digest in data.items():
            if self.data.setdefault(kind, digest) != digest:
                raise ValueError(f"{self.path}: its results were made with other {kind}")

    def require_settings(self, runs: Iterable[Run]) -> None:
        """Refuses runs with other settings than when they were finished."""
        for run in runs:
            # `docs/reproduction/small.json` has none.
            known = self.units.get(run.name, {}).get("settings")
            if known and known != run.settings(self.output):
                raise ValueError(f"{self.path}: {run.name} was made with other settings")

    def add(self, name: str, entry: dict) -> None:
        """Lists a run and writes the file; says so if a listed run has other numbers now."""
        known = self.units.get(name, entry)
        if any(known.get(key) != entry[key] for key in entry.keys() - _OF_THE_RUN):
            say(f"{name} was made again, with other numbers than those of {known['command']}")
        self.units[name] = entry
        units = dict(sorted(self.units.items()))
        content = {"scale": self.scale, "data": self.data, "units": units}
        write_atomically(self.path, json.dumps(content, indent=1) + "\n")
