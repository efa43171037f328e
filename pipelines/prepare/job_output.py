"""The files of a sharded job, finished or not: which of them exist, and which run they belong to.

While a job runs, `PREFIX.progress/` holds `settings.json`, a note `00007.json` for each finished
shard. `PREFIX.manifest.json` replaces it.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from pipelines.files import take_lock, write_atomically
from pipelines.shards.shard_files import shard_path
from pipelines.shards.shard_manifest import manifest_path
from pipelines.status import duration

_PLAN = "settings.json"


@dataclasses.dataclass(frozen=True)
class JobOutput:
    """The files of a job.

    Attributes:
        prefix: of the shards, local or `gs://`.
        plan: `kind`, `shards`, `vocabulary_sha256` and `settings`, of JSON: all that must be equal
            for two runs to make the same files.
    """

    prefix: str
    plan: dict[str, Any]

    @property
    def shards(self) -> int:
        """How many shards the job has."""
        return self.plan["shards"]

    @property
    def folder(self) -> str:
        """The folder of the notes."""
        return f"{self.prefix}.progress"

    @functools.cached_property
    def digest(self) -> str:
        """The hash of the plan, which each note holds."""
        return hashlib.sha256(json.dumps(self.plan, sort_keys=True).encode()).hexdigest()

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Reserves the prefix while the block runs, for one run and one plan at a time.

        Raises:
            ValueError: another process writes there, or an unfinished run has another plan.
        """
        tf.io.gfile.makedirs(self.folder)
        with _lock(os.path.join(self.folder, "lock"), self.prefix):
            plan = _read_json(os.path.join(self.folder, _PLAN))
            if plan is not None and plan != self.plan and self.noted():
                raise ValueError(
                    f"{self.prefix}: an unfinished run has {_difference(plan, self.plan)}; run "
                    f"with its settings, write elsewhere, or remove {self.folder} and "
                    f"{self.prefix}-*-of-{plan['shards']:05d}"
                )
            if plan != self.plan:
                write_atomically(os.path.join(self.folder, _PLAN), json.dumps(self.plan))
            self.clear_temporary()
            yield

    def check_finished(self, manifest: dict) -> None:
        """Checks finished output, as its manifest lists it, against the plan.

        Raises:
            ValueError: the manifest has another plan, or a file is missing or has another size.
        """
        path = manifest_path(self.prefix)
        there = {name: manifest.get(name) for name in ("kind", "vocabulary_sha256", "settings")}
        there["shards"] = len(manifest["shards"])
        if there != self.plan:
            raise ValueError(
                f"{path}: is of data with {_difference(there, self.plan)}; write elsewhere, or "
                "remove it and its files"
            )
        for shard, entry in enumerate(manifest["shards"]):
            if not self._is_whole(shard, entry):
                raise ValueError(
                    f"{shard_path(self.prefix, shard, self.shards)}: is missing or changed "
                    f"since it was written; remove {path} to make everything anew"
                )

    def note(self, shard: int, result: dict) -> None:
        """Notes that a shard is finished, with its `entry`, `counts` and `damaged`."""
        text = json.dumps({**result, "settings_sha256": self.digest})
        write_atomically(self._note_path(shard), text)

    def finished(self) -> dict[int, dict]:
        """The results of the finished shards, see `note`."""
        shards = sorted(self.noted())
        with concurrent.futures.ThreadPoolExecutor(16) as pool:  # remote files are slow
            results = zip(shards, pool.map(self._result, shards), strict=True)
            return {shard: result for shard, result in results if result is not None}

    def progress(self, finished: dict[int, dict], unit: str) -> Callable[[], str]:
        """A function that says how far this run has got; it reads each note once.

        Args:
            finished: from `finished()`: what an earlier run made.
            unit: a name in the counts of the results, whose rate is shown.
        """
        units, began = {}, time.monotonic()

        def text():
            with contextlib.suppress(tf.errors.OpError):  # perhaps it works the next time
                for shard in self.noted() - finished.keys() - units.keys():
                    result = _read_json(self._note_path(shard))
                    if result is not None:
                        units[shard] = result["counts"].get(unit, 0)
            done, seconds = len(finished) + len(units), time.monotonic() - began
            if not units:
                return f"{done} of {self.shards}"
            total, left = sum(units.values()), (self.shards - done) * seconds / len(units)
            rate = f"{total:,} {unit}, {total / seconds:,.0f} a second"
            return f"{done} of {self.shards}, {rate}, {duration(left)} left"

        return text

    def clear_temporary(self) -> None:
        """Removes the half-written files of workers that were killed."""
        ours = re.compile(re.escape(self.prefix) + r"(?:-\d+-of-\d+|\.progress/[^/]*)\.tmp-[^/]*")
        for pattern in (f"{self.prefix}-*.tmp-*", f"{self.folder}/*.tmp-*"):
            for path in filter(ours.fullmatch, tf.io.gfile.glob(pattern)):
                with contextlib.suppress(tf.errors.NotFoundError):
                    tf.io.gfile.remove(path)

    def remove(self) -> None:
        """Removes the shards and the notes."""
        for shard in range(self.shards):
            tf.io.gfile.remove(shard_path(self.prefix, shard, self.shards))
        self.clear()

    def clear(self) -> None:
        """Removes the notes."""
        if tf.io.gfile.exists(self.folder):
            tf.io.gfile.rmtree(self.folder)

    def _note_path(self, shard):
        return os.path.join(self.folder, f"{shard:05d}.json")

    def _result(self, shard):
        result = _read_json(self._note_path(shard))
        is_ours = result is not None and result["settings_sha256"] == self.digest
        return result if is_ours and self._is_whole(shard, result["entry"]) else None

    def noted(self) -> set[int]:
        """The shards that have notes."""
        names = (name.rstrip("/") for name in tf.io.gfile.listdir(self.folder))
        return {int(name[:-5]) for name in names if name[:-5].isdigit() and name.endswith(".json")}

    def _is_whole(self, shard, entry):
        try:
            path = shard_path(self.prefix, shard, self.shards)
            return tf.io.gfile.stat(path).length == entry["bytes"]
        except tf.errors.NotFoundError:
            return False


def _difference(there, here):
    """Names the first value in which two plans differ: `seed=1 and not 2`."""
    there, here = ({**plan, **plan["settings"], "settings": None} for plan in (there, here))
    for name in sorted(there.keys() | here.keys()):
        if there.get(name) != here.get(name):
            return f"{name}={_short(there.get(name))} and not {_short(here.get(name))}"


def _short(value):
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _read_json(path):
    """The content of a small file; None if it is missing or not JSON."""
    try:
        with tf.io.gfile.GFile(path) as file:
            return json.load(file)
    except (tf.errors.NotFoundError, ValueError):
        return None


@contextlib.contextmanager
def _lock(path, prefix):
    """Locks a local file; the lock ends with the process. Other file systems have no locks."""
    if "://" in path:
        yield
        return
    with open(path, "w") as file:
        if not take_lock(file):
            raise ValueError(f"{prefix}: another process is writing it")
        yield
