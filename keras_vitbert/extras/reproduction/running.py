"""Runs what is missing, in order, and keeps the results in `results.json`.

A run that is listed there is finished, whether or not its folder still exists.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from statistics import mean

from keras_vitbert.extras.reproduction.plan import Plan, Run
from keras_vitbert.extras.reproduction.prepared import prepared
from keras_vitbert.inspection.probes import RIDGE
from keras_vitbert.runs.provenance import commit, versions
from keras_vitbert.runs.run_lock import held
from pipelines.command_line import EXIT_DIVERGED, EXIT_DONE, EXIT_STOPPED, Stopped, stop_request
from pipelines.files import json_object, write_atomically
from pipelines.status import say

# Each run has a process of its own: what TensorFlow and Keras hold (compiled functions, memory,
# names of layers, seeds) ends with it, and numbers do not depend on what ran before.
COMMAND = ("-m", "keras_vitbert.extras.reproduction.one_run")
_POLL = 0.2  # seconds
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


def missing(runs: dict[str, Run], results: Results) -> list[Run]:
    """The runs without results, and those that these read from but whose folders are gone."""
    names = set()
    for name, run in reversed(runs.items()):
        if name in names or name not in results.units:
            names.add(name)
            for need in run.needs:
                diverged = results.units.get(need, {}).get("outcome") == DIVERGED
                if not diverged and not os.path.exists(_summary(results, need)):
                    names.add(need)
    return [run for run in runs.values() if run.name in names]


def run_missing(plan: Plan, results: Results, parallel: int = 1) -> None:
    """Prepares the data, and runs what is missing.

    Args:
        plan: what is asked for.
        results: are kept up to date.
        parallel: how many run at a time.

    Raises:
        Stopped: by a signal, after the running ones have saved their work.
        ValueError: a run failed, and its output says why; or the data are not those of the results.
    """
    for folder in (os.path.dirname(results.path) or ".", results.output):
        os.makedirs(folder, exist_ok=True)
    with held(results.output):
        if plan.scale.build:
            data = os.path.join(results.output, "data")
            results.require_data(prepared(data, plan.scale.build))
        _run_missing(plan.runs, results, parallel)


def _run_missing(runs, results, parallel):
    processes, ended = {}, 0
    with stop_request.deferred():
        try:
            while todo := missing(runs, results):
                names = {run.name for run in todo}
                for run in todo:
                    is_ready = names.isdisjoint((*run.needs, run.rate_of))
                    if not is_ready or run.name in processes or len(processes) == parallel:
                        continue
                    needed = [results.units.get(need) for need in (*run.needs, run.rate_of)]
                    command = _command(run, results)
                    if any(entry and entry["outcome"] == DIVERGED for entry in needed):
                        _list(run, command, DIVERGED, results)
                        continue
                    say(f"{run.name}: {ended + len(processes) + 1} of {ended + len(todo)}")
                    # In a session of its own: else Ctrl-C would reach it, and `terminate` as well.
                    process = subprocess.Popen([sys.executable, *command], start_new_session=True)
                    processes[run.name] = process
                time.sleep(_POLL)
                for name in [name for name, one in processes.items() if one.poll() is not None]:
                    process = processes.pop(name)
                    outcome = _outcome(name, process.returncode)
                    _list(runs[name], process.args[1:], outcome, results)
                    ended += 1
                if stop_request.requested:
                    raise Stopped("run the same command again")
        finally:
            for process in processes.values():
                process.terminate()  # it saves its work
            for process in processes.values():
                process.wait()


def _command(run, results):
    """The arguments of Python that run it."""
    values = dict(run.values)
    if run.rate_of:
        values["optimizer.learning_rate"] = results.units[run.rate_of].get("learning_rate")
    asked = {"kind": run.kind, "folder": os.path.join(results.output, run.name)}
    asked |= {"experiment": run.of, "values": values, "inputs": run.inputs, "tpu": run.tpu}
    return [*COMMAND, json.dumps(asked, ensure_ascii=False)]


def _outcome(name, status):
    if status == EXIT_STOPPED:
        raise Stopped(f"in {name}; run the same command again")
    if status not in (EXIT_DONE, EXIT_DIVERGED):
        raise ValueError(f"{name} ended with status {status}, see above")
    return DONE if status == EXIT_DONE else DIVERGED


def _list(run, command, outcome, results):
    """Lists the result of a run."""
    numbers = {}
    if outcome == DONE and run.kind != "figures":
        with open(_summary(results, run.name), encoding="utf-8") as file:
            numbers = numbers_of(run.kind, json.load(file))
    entry = {
        "settings": run.settings(results.output),
        "command": shlex.join(["python", *command]).replace(f"{results.output}/", "OUTPUT/"),
        "seed": run.values.get("seed", 0),
        "outcome": outcome,
        **numbers,
        "versions": versions(),
        "commit": commit(),
    }
    results.add(run.name, entry)


def numbers_of(kind: str, summary: dict) -> dict:
    """The part of a run's `summary.json` that is kept."""
    if kind == "pretrain":
        names = ("steps", "seconds", "parameters", "validation", "baselines")
        names += ("mask", "co_activation")
        return {name: summary[name] for name in names if name in summary}
    if kind == "probe":
        first = next(iter(summary["splits"].values()))
        return {
            "value": mean(first["0"][RIDGE]),  # of all training examples
            "metric": "accuracy",
            **{name: summary[name] for name in ("splits", "examples", "training_examples")},
        }
    split = summary["splits"][summary["split"]]
    names = ("value", "metric", "learning_rate", "sweep", "steps", "seconds", "training_examples")
    kept = {name: summary[name] for name in names}
    return kept | {"examples": split["examples"], "majority": split["majority_accuracy"]}


def _summary(results, name):
    return os.path.join(results.output, name, "summary.json")
