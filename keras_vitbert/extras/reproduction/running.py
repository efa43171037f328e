"""Runs missing jobs in order, and keeps the results in `results.json`.

A job that is listed there is finished, whether or not its folder still exists.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from statistics import mean
from typing import Any

from keras_vitbert.extras.reproduction.plan import Job, Plan
from keras_vitbert.extras.reproduction.prepared import prepared
from keras_vitbert.inspection.probes import RIDGE
from keras_vitbert.runs.provenance import commit, versions
from keras_vitbert.runs.run_lock import held
from pipelines.command_line import EXIT_DIVERGED, EXIT_DONE, EXIT_STOPPED, Stopped, stop_request
from pipelines.files import json_object, write_atomically
from pipelines.status import say

# Each job has a process of its own: what TensorFlow and Keras hold (compiled functions, memory,
# names of layers, seeds) ends with it, and numbers do not depend on what ran before.
COMMAND = ("-m", "keras_vitbert.extras.reproduction.one_run")
_POLL = 0.2  # seconds
DONE, DIVERGED = "done", "diverged"
_OF_THE_RUN = {"seconds", "settings", "command", "versions", "commit"}  # these are not results
_KEPT = {  # of a run's `summary.json`, where it has them
    "pretrain": ("parameters", "validation", "baselines", "mask", "co_activation"),
    "probe": ("splits", "examples"),
    "finetune": ("metric", "learning_rate", "sweep"),
}
_KEPT_OF_ALL = ("steps", "seconds", "training_examples")


class Results:
    """The file of the results of a scale; `output` is the folder of all jobs, absolute."""

    def __init__(self, path: str, scale: str, output: str):
        self.path, self.scale, self.output = path, scale, output
        self.data: dict[str, str] = {}  # the SHA-256 of each kind of data
        self.jobs: dict[str, dict[str, Any]] = {}  # entries by a job's name
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                try:
                    content = json_object(file.read())
                    known, self.data = content["scale"], content["data"]
                    self.jobs = content["units"]
                except (ValueError, KeyError) as error:
                    raise ValueError(f"{path}: cannot be used: {error}") from error
            if known != scale:
                raise ValueError(f"{path}: has the results of the scale {known}")

    def require_data(self, data: dict[str, str]) -> None:
        """Refuses other data than those of finished jobs, by the SHA-256 of each kind of data."""
        for kind, digest in data.items():
            if self.data.setdefault(kind, digest) != digest:
                raise ValueError(f"{self.path}: its results were made with other {kind}")

    def require_settings(self, jobs: Iterable[Job]) -> None:
        """Refuses jobs with other settings, or another rate, than when they were finished."""
        for job in jobs:
            known = self.jobs.get(job.name, {})
            settings = known.get("settings")  # `docs/reproduction/small.json` has none
            if settings and settings != job.settings(self.output):
                raise ValueError(f"{self.path}: {job.name} was made with other settings")
            rate = self.rate(job)  # of sweeps that may have been made again
            if rate is not None and known.get("learning_rate", rate) != rate:
                raise ValueError(f"{self.path}: {job.name} had another rate than its sweeps pick")

    def rate(self, job: Job) -> float | None:
        """The learning rate that a job's sweeps pick; None without any, or until all are done."""
        if not job.rates_of or not self.jobs.keys() >= {*job.rates_of}:
            return None
        if self.diverged(job.rates_of):
            return None
        return best_rate([self.jobs[name]["sweep"] for name in job.rates_of])

    def summary(self, name: str) -> str:
        """The path of a job's summary, which exists while its folder does."""
        return os.path.join(self.output, name, "summary.json")

    def diverged(self, names: Iterable[str]) -> bool:
        """Whether any of some jobs has."""
        return any(self.jobs.get(name, {}).get("outcome") == DIVERGED for name in names)

    def add(self, job: Job, command: list[str], outcome: str) -> None:
        """Lists a job and writes the file; says so if a listed one has other numbers now."""
        numbers = {}
        if outcome == DONE and job.kind != "figures":
            with open(self.summary(job.name), encoding="utf-8") as file:
                numbers = numbers_of(job.kind, json.load(file))
        entry = {
            "settings": job.settings(self.output),
            "command": shlex.join(["python", *command]).replace(f"{self.output}/", "OUTPUT/"),
            "seed": job.values.get("seed", 0),
            "outcome": outcome,
            **numbers,
            "versions": versions(),
            "commit": commit(),
        }
        known = self.jobs.get(job.name, entry)
        if any(known.get(key) != entry[key] for key in entry.keys() - _OF_THE_RUN):
            say(f"{job.name} was made again, with other numbers than those of {known['command']}")
        self.jobs[job.name] = entry
        content = {"scale": self.scale, "data": self.data, "units": dict(sorted(self.jobs.items()))}
        write_atomically(self.path, json.dumps(content, indent=1) + "\n")


def numbers_of(kind: str, summary: dict[str, Any]) -> dict[str, Any]:
    """The part of a run's `summary.json` that is kept."""
    names = (*_KEPT[kind], *_KEPT_OF_ALL)
    kept = {name: summary[name] for name in names if name in summary}
    if kind == "pretrain":
        return kept
    splits = summary["splits"]
    # Beside test examples, those of validation have picked the learning rate.
    split = splits.get("test") or next(iter(splits.values()))
    if kind == "probe":
        value = mean(split["0"][RIDGE])  # of all training examples
        return kept | {"value": value, "metric": "accuracy"}
    kept |= {"value": split[summary["metric"]]["median"], "majority": split["majority_accuracy"]}
    return kept | {"examples": split["examples"]}


def best_rate(sweeps: list[dict[str, float | None]]) -> float:
    """The learning rate with the best mean of some sweeps; the smallest of equally good ones."""
    return float(
        max(sweeps[0], key=lambda rate: (mean(s[rate] or 0.0 for s in sweeps), -float(rate)))
    )


def missing(jobs: dict[str, Job], results: Results) -> list[Job]:
    """The jobs without results, and those that these read from but whose folders are gone."""
    names = set()
    for name, job in reversed(jobs.items()):
        if name in names or name not in results.jobs:
            names.add(name)
            for need in job.needs:
                if not (results.diverged([need]) or os.path.exists(results.summary(need))):
                    names.add(need)
    return [job for job in jobs.values() if job.name in names]


def run_missing(plan: Plan, results: Results, parallel: int, tpus: dict[str, str | None]) -> None:
    """Prepares the data, and runs missing jobs, so many at a time, each kind on its TPU.

    A signal raises `Stopped`, after the running jobs have saved their work.
    """
    for folder in (os.path.dirname(results.path) or ".", results.output):
        os.makedirs(folder, exist_ok=True)
    with held(results.output):
        if plan.scale.build:
            data = os.path.join(results.output, "data")
            results.require_data(prepared(data, plan.scale.build))
        processes: dict[str, tuple[subprocess.Popen, list[str]]] = {}  # with their commands
        with stop_request.deferred():
            try:
                while todo := missing(plan.jobs, results):
                    _begin(todo, processes, results, parallel, tpus)
                    time.sleep(_POLL)
                    for name in list(processes):
                        status = processes[name][0].poll()
                        if status is not None:
                            outcome = _outcome(name, status)
                            results.add(plan.jobs[name], processes.pop(name)[1], outcome)
                    if stop_request.requested:
                        raise Stopped("run the same command again")
            finally:
                for process, _ in processes.values():
                    process.terminate()  # it saves its work
                for process, _ in processes.values():
                    process.wait()


def _begin(
    todo: list[Job],
    processes: dict[str, tuple[subprocess.Popen, list[str]]],
    results: Results,
    parallel: int,
    tpus: dict[str, str | None],
) -> None:
    """Begins as many jobs as may run at a time and have all that they need."""
    names = {job.name for job in todo}
    for job in todo:
        needs = {*job.needs, *job.rates_of}
        if names & needs or job.name in processes or len(processes) == parallel:
            continue
        values = dict(job.values)
        if (rate := results.rate(job)) is not None:
            values["optimizer.learning_rate"] = rate
        asked: dict[str, Any] = {"kind": job.kind, "folder": os.path.join(results.output, job.name)}
        asked |= {"experiment": job.experiment, "values": values, "inputs": job.inputs}
        asked["tpu"] = tpus.get(job.kind)
        command = [*COMMAND, json.dumps(asked, ensure_ascii=False)]
        if results.diverged(needs):
            results.add(job, command, DIVERGED)
            continue
        say(f"{job.name} begins: {len(todo)} are missing")
        # In a session of its own: else Ctrl-C would reach it, and `terminate` as well.
        process = subprocess.Popen([sys.executable, *command], start_new_session=True)
        processes[job.name] = process, command


def _outcome(name: str, status: int) -> str:
    if status == EXIT_STOPPED:
        raise Stopped(f"in {name}; run the same command again")
    if status not in (EXIT_DONE, EXIT_DIVERGED):
        raise ValueError(f"{name} ended with status {status}, see above")
    return DONE if status == EXIT_DONE else DIVERGED
