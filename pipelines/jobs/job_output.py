"""The files of a sharded job, finished or not: which of them exist, and which run they belong to.

While a job runs, `PREFIX.progress/` holds `settings.json`, a note `00007.json` for each finished
shard, and `error.json` if a remote worker has failed. `PREFIX.manifest.json` replaces it.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import re
from typing import Any

import tensorflow as tf

from pipelines.files import take_lock, write_atomically
from pipelines.shards.shard_files import shard_path
from pipelines.shards.shard_manifest import manifest_path, read_manifest

_ERROR = "error.json"
_PLAN = "settings.json"


@dataclasses.dataclass(frozen=True)
class JobOutput:
    """The files of a job.

    Attributes:
        prefix: str, of the shards, local or `gs://`.
        plan: JSON-serializable dict of `kind`, `shards`, `vocabulary_sha256` and `settings`: all
            that must be equal for two runs to make the same files.
    """

    prefix: str
    plan: dict[str, Any]

    @property
    def shards(self):
        """How many shards the job has."""
        return self.plan["shards"]

    @property
    def folder(self):
        """The folder of the notes."""
        return f"{self.prefix}.progress"

    @functools.cached_property
    def digest(self):
        """The hash of the plan, which each note holds."""
        return hashlib.sha256(json.dumps(self.plan, sort_keys=True).encode()).hexdigest()

    @contextlib.contextmanager
    def claimed(self):
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
                    f"with its settings, give another --output, or remove {self.folder} and "
                    f"{self.prefix}-*-of-{plan['shards']:05d}"
                )
            if plan != self.plan:
                write_atomically(os.path.join(self.folder, _PLAN), json.dumps(self.plan))
            self.clear_temporary()
            if self.error() is not None:
                tf.io.gfile.remove(os.path.join(self.folder, _ERROR))
            yield

    def check_finished(self, manifest):
        """Checks finished output against the plan.

        Args:
            manifest: dict, from `shard_manifest.read_manifest`.

        Raises:
            ValueError: the manifest has another plan, or a file is missing or has another size.
        """
        path = manifest_path(self.prefix)
        there = {name: manifest.get(name) for name in ("kind", "vocabulary_sha256", "settings")}
        there["shards"] = len(manifest["shards"])
        if there != self.plan:
            raise ValueError(
                f"{path}: is of data with {_difference(there, self.plan)}; give another --output, "
                "or remove it and its files"
            )
        for shard, entry in enumerate(manifest["shards"]):
            if not self._is_whole(shard, entry):
                raise ValueError(
                    f"{shard_path(self.prefix, shard, self.shards)}: is missing or changed "
                    f"since it was written; remove {path} and run the same command again to "
                    "rebuild everything"
                )

    def note(self, shard, result):
        """Notes that a shard is finished.

        Args:
            shard: int.
            result: dict of `entry`, `counts` and `damaged`.
        """
        text = json.dumps({**result, "settings_sha256": self.digest})
        write_atomically(self._note_path(shard), text)

    def finished(self):
        """The results of the finished shards: dict of shard to result, see `note`."""
        shards = sorted(self.noted())
        with concurrent.futures.ThreadPoolExecutor(16) as pool:  # remote files are slow
            results = zip(shards, pool.map(self._result, shards), strict=True)
            return {shard: result for shard, result in results if result is not None}

    def poller(self, finished, unit):
        """A function that counts what is finished from now on; it reads each note once.

        Args:
            finished: dict, from `finished()`: shards that do not count.
            unit: str, a name in the counts of the results.

        Returns:
            Function without arguments that returns (shards, units).
        """
        units = {}

        def poll():
            with contextlib.suppress(tf.errors.OpError):  # perhaps it works the next time
                for shard in self.noted() - finished.keys() - units.keys():
                    result = _read_json(self._note_path(shard))
                    if result is not None:
                        units[shard] = result["counts"].get(unit, 0)
            return len(units), sum(units.values())

        return poll

    def note_error(self, text):
        """Leaves a remote worker's error for the process that started the work.

        Args:
            text: str, of a `ValueError`.
        """
        write_atomically(os.path.join(self.folder, _ERROR), json.dumps({"error": text}))

    def error(self):
        """The text of the error that a remote worker has left, or None."""
        return (_read_json(os.path.join(self.folder, _ERROR)) or {}).get("error")

    def raise_if_unfinished(self, results):
        """Checks that all shards are made.

        Args:
            results: dict, from `finished()`.

        Raises:
            ValueError: a remote worker has left an error, or a shard is missing.
        """
        if (error := self.error()) is not None:
            raise ValueError(error)
        missing = [shard for shard in range(self.shards) if shard not in results]
        if missing:
            raise ValueError(
                f"{shard_path(self.prefix, missing[0], self.shards)}: was not made, and "
                f"{len(missing) - 1} others; run the same command again"
            )

    def clear_temporary(self):
        """Removes the half-written files of workers that were killed."""
        ours = re.compile(re.escape(self.prefix) + r"(?:-\d+-of-\d+|\.progress/[^/]*)\.tmp-[^/]*")
        for pattern in (f"{self.prefix}-*.tmp-*", f"{self.folder}/*.tmp-*"):
            for path in filter(ours.fullmatch, tf.io.gfile.glob(pattern)):
                with contextlib.suppress(tf.errors.NotFoundError):
                    tf.io.gfile.remove(path)

    def remove(self):
        """Removes the shards and the notes."""
        for shard in range(self.shards):
            tf.io.gfile.remove(shard_path(self.prefix, shard, self.shards))
        self.clear()

    def clear(self):
        """Removes the notes."""
        if tf.io.gfile.exists(self.folder):
            tf.io.gfile.rmtree(self.folder)

    def _note_path(self, shard):
        return os.path.join(self.folder, f"{shard:05d}.json")

    def _result(self, shard):
        result = _read_json(self._note_path(shard))
        is_ours = result is not None and result["settings_sha256"] == self.digest
        return result if is_ours and self._is_whole(shard, result["entry"]) else None

    def noted(self):
        """The shards that have notes: set of int."""
        names = (name.rstrip("/") for name in tf.io.gfile.listdir(self.folder))
        return {int(name[:-5]) for name in names if name[:-5].isdigit() and name.endswith(".json")}

    def _is_whole(self, shard, entry):
        try:
            path = shard_path(self.prefix, shard, self.shards)
            return tf.io.gfile.stat(path).length == entry["bytes"]
        except tf.errors.NotFoundError:
            return False


def recorded_shards(prefix):
    """How many shards the job of a prefix has, if the job or some of them are finished.

    Args:
        prefix: str, local or `gs://`.

    Returns:
        int, or None.
    """
    if (manifest := read_manifest(prefix)) is not None:
        return len(manifest["shards"])
    folder = JobOutput(prefix, {}).folder
    plan = _read_json(os.path.join(folder, _PLAN))
    if plan is None or not JobOutput(prefix, plan).noted():
        return None
    return plan["shards"]


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
            raise ValueError(
                f"--output={prefix}: another process is writing it; wait for it, or give another"
            )
        yield
