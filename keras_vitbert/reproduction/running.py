"""Runs units: one after another here, and alongside other machines that share the folder."""

import os
import shlex
import subprocess
import sys
import time

from keras_vitbert.reproduction.results import DIVERGED, DONE, LOCKS
from keras_vitbert.runs.run_lock import Locked, held
from pipelines.command_line import EXIT_DIVERGED, EXIT_DONE, EXIT_STOPPED, Stopped, stop_request
from pipelines.files import json_object
from pipelines.status import doing, duration, say

_SUMMARY = "summary.json"
_POLL = 15  # seconds between checks of what other machines have finished


def missing(units, results):
    """The units to run so that all have results.

    Args:
        units: list of `Unit`, each after all that it needs.
        results: `Results`.

    Returns:
        list of `Unit` in their order: those without results, and those that these read from but
        whose folders no longer exist.
    """
    names = set()
    for unit in reversed(units):
        if unit.name in names or unit.name not in results.units:
            names.add(unit.name)
            names |= {need for need in unit.needs if _must_be_made(need, results)}
    return [unit for unit in units if unit.name in names]


def _must_be_made(name, results):
    diverged = name in results.units and results.units[name]["outcome"] == DIVERGED
    return not diverged and not os.path.exists(os.path.join(results.output, name, _SUMMARY))


def run_missing(units, results, data, numbers_of, left):
    """Runs what is missing, in the given order; skips what another machine is running.

    Args:
        units: list of `Unit`, each after all that it needs.
        results: `Results`, which are kept up to date.
        data: str, the folder of prepared data.
        numbers_of: callable that takes a `Unit` and its summary, and returns what is kept of it.
        left: callable that takes a list of `Unit` and returns the seconds they take.

    Raises:
        Stopped: by a signal, after the running command has saved its work.
        ValueError: a command failed; its output says why.
    """
    done = 0
    while True:
        results.collect(units)
        todo = missing(units, results)
        if not todo:
            return
        names = {unit.name for unit in todo}
        ready = [unit for unit in todo if names.isdisjoint((*unit.needs, unit.rate_of))]
        if _first_free(ready, results, data, numbers_of, done, todo, left):
            done += 1
        else:
            with doing("waiting for what other machines run"):
                time.sleep(_POLL)


def _first_free(ready, results, data, numbers_of, done, todo, left):
    """Runs the first unit that no other machine runs; returns whether there is one: bool."""
    for unit in ready:
        lock = os.path.join(results.output, LOCKS, unit.name)
        os.makedirs(lock, exist_ok=True)
        try:
            with held(lock) as file:
                if unit.name not in results.units and results.is_finished(unit):
                    return True  # another machine has just finished it
                about = f"{unit.name}, {done + 1} of {done + len(todo)}"
                say(f"{about}; {duration(left(todo))} left, including it")
                _run(unit, results, data, numbers_of, file)
                return True
        except Locked:
            continue
    return False


def _run(unit, results, data, numbers_of, lock):
    """Runs a unit, or records that it cannot be run because a unit that it needs diverged."""
    needed = [results.units[name] for name in (*unit.needs, unit.rate_of) if name in results.units]
    rate = results.units[unit.rate_of].get("learning_rate") if unit.rate_of else None
    command = unit.command(results.output, data, rate)
    if any(entry["outcome"] == DIVERGED for entry in needed):
        results.finish(unit, rate, DIVERGED, {})
        return
    say("+ " + shlex.join(["python", *command]))
    status = called(command, lock)
    if status == EXIT_DONE and unit.has_summary:
        with open(os.path.join(results.output, unit.name, _SUMMARY), encoding="utf-8") as file:
            results.finish(unit, rate, DONE, numbers_of(unit, json_object(file.read())))
    elif status == EXIT_DONE:
        results.finish(unit, rate, DONE, {})
    elif status == EXIT_DIVERGED:
        results.finish(unit, rate, DIVERGED, {})
    else:
        require_done(unit.name, status)


def require_done(name, status):
    """Refuses to go on after a command that did not end well.

    Args:
        name: str, what it ran, for messages.
        status: int, its exit status.

    Raises:
        Stopped: by a signal, after it has saved its work.
        ValueError: it failed; its output says why.
    """
    if status == EXIT_DONE:
        return
    if status == EXIT_STOPPED or stop_request.requested:
        raise Stopped(f"in {name}; run the same command again")
    raise ValueError(
        f"{name} ended with status {status}, see above; fix that and run the same command again"
    )


def called(command, lock=None):
    """Calls a command, and passes SIGTERM or SIGINT on once, as SIGTERM.

    Args:
        command: list of str, arguments of Python.
        lock: a locked file, which the command holds too: if this process is killed, the command
            goes on, and no other process may begin the same. Or None.

    Returns:
        int, its exit status.
    """
    with stop_request.deferred():
        # It gets its own session: otherwise Ctrl-C would reach both, and be passed on as well.
        process = subprocess.Popen(
            [sys.executable, *command],
            start_new_session=True,
            pass_fds=[] if lock is None else [lock.fileno()],
        )
        asked = False
        while process.poll() is None:
            if stop_request.requested and not asked:
                process.terminate()
                asked = True
            time.sleep(0.1)
    return process.returncode
