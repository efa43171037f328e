"""Makes a sharded data set on many cores or machines, and resumes where a run was stopped.

A job's output is a number of files, each a pure function of the inputs and the settings. So the
output does not depend on the number of workers, a worker's memory holds the work on one shard,
nothing large passes through Beam's shuffle, and the same command makes what a killed run did not.

While a job runs, `PREFIX.progress/` holds a note, `00007.json`, of each finished shard with its
counts and all settings. `PREFIX.manifest.json` replaces it at the end. Any path may be local or
`gs://`. The workers are processes on this machine, see `local_workers`, or Apache Beam's.
"""

from __future__ import annotations

import abc
import collections
import concurrent.futures.process
import contextlib
import dataclasses
import functools
import importlib.util
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.command_line import install, load_tensorflow, say
from pipelines.cores import available_cores
from pipelines.files import make_folder, take_lock, write_atomically
from pipelines.flags import define_flags, parse_flags, parse_known_flags
from pipelines.prepare.local_workers import call_in_processes
from pipelines.shards.shard_files import LineFile, RecordFile, shard_path
from pipelines.shards.shard_manifest import DOCUMENTS, manifest_path, read_manifest, write_manifest
from pipelines.status import doing, duration

if TYPE_CHECKING:
    from absl.flags import FlagValues

ShardResult = tuple[dict[str, int], list[dict]]
SKIP_DAMAGED = ("skip_damaged", 0, "Damaged inputs that may be left out.", 0)


class ShardJob(abc.ABC):
    """Defines what is to be made. Subclasses are dataclasses that can be pickled."""

    kind: str  # as in the manifest, see `shard_manifest`
    unit: str  # the count whose rate is shown

    @property
    def vocabulary_sha256(self) -> str | None:
        """What `wordpiece.vocabulary_hash` says of the vocabulary, for text examples."""
        return None

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """Everything else that determines the output, as JSON can hold it."""

    @abc.abstractmethod
    def size(self) -> tuple[int, int, str]:
        """(the number of shards that suits the data, the highest that is not empty, of what)."""

    @abc.abstractmethod
    def write_shard(self, shard: int, shards: int, file: LineFile) -> ShardResult:
        """Writes the records of one shard, from 0 to `shards - 1`.

        Returns its counts, and what was left out as damaged: dicts with `file`, `record` (an int,
        or words) and `reason`. Inputs that cannot be used at all are a `ValueError`.
        """


@dataclasses.dataclass(frozen=True)
class Workers:
    """Where the work is done: processes on this machine, or a runner of Beam with its options."""

    processes: int
    runner: str = ""
    options: tuple[str, ...] = ()


def main(
    argv: list[str], usage: str, flags: Sequence[tuple], job: Callable[[Any], ShardJob]
) -> None:
    """The command of a job with one output.

    Strings among the flags that have no default are required. TensorFlow is loaded before `job` is
    called with the values of the flags.
    """
    values = define_flags(
        *flags,
        ("output", None, "Prefix of the output files, local or gs://."),
        ("shards", None, "Output files. Default: some minutes of work for each.", 1),
        SKIP_DAMAGED,
    )
    required = [name for name, default, _, *bounds in flags if default is None and not bounds]
    workers = parse_job_flags(values, argv, usage, [*required, "output"])
    if not os.path.basename(values.output):
        raise ValueError(f"{values.output}: is a folder; give the beginning of the files' names")
    load_tensorflow()
    run_job(job(values), values.output, values.shards, workers, values.skip_damaged)


def parse_job_flags(
    values: FlagValues, argv: list[str], usage: str, required: Sequence[str]
) -> Workers:
    """Parses a command's flags, and what follows `--`: where the work is done."""
    here = argv.index("--") if "--" in argv else len(argv)
    parse_flags(values, argv[:here], usage, required)
    workers = parse_workers(argv[here + 1 :])
    if workers.runner.lower().startswith("dataflow") and "://" not in values.output:
        raise ValueError(f"{values.output}: {workers.runner} cannot write there; give a gs:// path")
    return workers


def parse_workers(arguments: list[str]) -> Workers:
    """Parses the number of processes, or the runner and other options of Beam."""
    values = define_flags(
        ("runner", "", "Beam's runner; processes on this machine if empty."),
        ("direct_num_workers", 0, "Processes on this machine; 0: one for each core.", 0),
    )
    others = parse_known_flags(values, arguments)
    if values.runner.lower() in ("", "direct", "directrunner"):
        if others:
            raise ValueError(f"{others[0]}: needs a runner of Beam")
        return Workers(values.direct_num_workers or available_cores())
    if importlib.util.find_spec("apache_beam") is None:
        raise ValueError(f"runner {values.runner} needs apache-beam; run: {install('beam')}")
    return Workers(0, values.runner, tuple(arguments))


def run_job(
    job: ShardJob, prefix: str, shards: int | None, workers: Workers, skip_damaged: int = 0
) -> dict[str, int]:
    """Makes all missing shards of a job, and the manifest.

    Args:
        prefix: of the files; its folder is made.
        shards: how many files; None for a number that suits the data.
        skip_damaged: how many damaged inputs may be left out.

    Returns:
        The counts of all shards, and `records`.

    Raises:
        ValueError: a shard could not be made, too much is damaged, the inputs hold nothing, or
            `prefix` holds other data.
    """
    asked, (automatic, count, of_what) = shards, job.size()
    shards = max(1, min(asked or automatic, count))
    if shards != asked:
        say(f"{prefix}: {shards:,} shard{'s' * (shards > 1)} for {count:,} {of_what}")
    settings = json.loads(json.dumps(job.settings()))
    output = _Output(prefix, shards, _plan(job.kind, shards, job.vocabulary_sha256, settings))
    make_folder(os.path.dirname(prefix) or ".")
    if (manifest := read_manifest(prefix)) is not None:
        output.check_complete(manifest)
        output.remove_notes()
        say(f"{prefix}: is complete, nothing to do")
        return manifest["counts"]

    began = time.monotonic()
    with output.claim():
        notes = output.read_notes()
        if len(_damaged(notes)) > skip_damaged:  # the inputs may have been fixed
            notes = {shard: note for shard, note in notes.items() if not note["damaged"]}
        if notes:
            say(f"{prefix}: {len(notes)} of {shards} shards already exist")
        _make_shards(job, output, [shard for shard in range(shards) if shard not in notes], workers)
        notes = output.read_notes()
        if len(notes) < shards:  # a job elsewhere was cancelled
            raise ValueError(
                f"{prefix}: {shards - len(notes)} shards were not made; run the same command again"
            )
        damaged = _damaged(notes)
        if len(damaged) > skip_damaged:
            first = damaged[0]
            record = first["record"]
            record = record if isinstance(record, str) else f"record {record}"
            raise ValueError(
                f"{first['file']}: {record}: {first['reason']}; fix the file, or set skip_damaged "
                f"to {len(damaged)} (what was made is kept for that)"
            )
        entries = [notes[shard]["entry"] for shard in range(shards)]
        records = sum(entry["records"] for entry in entries)
        if not records:
            output.remove_notes(and_shards=True)
            raise ValueError(f"{prefix}: nothing to write, the inputs hold no {job.unit}")
        counts = collections.Counter()
        for note in notes.values():
            counts.update(note["counts"])
        vocabulary = job.vocabulary_sha256
        write_manifest(prefix, job.kind, entries, settings, vocabulary, dict(counts), damaged)
        output.remove_notes()
    took = duration(time.monotonic() - began)
    say(f"{prefix}: {shards} shards, {counts[job.unit]:,} {job.unit}, {took}")
    if damaged:
        say(f"{prefix}: {len(damaged)} damaged inputs left out, see {manifest_path(prefix)}")
    return {"records": records, **counts}


def _damaged(notes: dict[int, dict]) -> list[dict]:
    """What is damaged in the inputs, in the order of the shards."""
    return [record for shard in sorted(notes) for record in notes[shard]["damaged"]]


def _plan(
    kind: str, shards: int, vocabulary: str | None, settings: dict[str, Any]
) -> dict[str, Any]:
    """All that must be equal for two runs to make the same files."""
    return {"kind": kind, "shards": shards, "vocabulary": vocabulary, **settings}


@dataclasses.dataclass(frozen=True)
class _Output:
    """The files of a job, finished or not."""

    prefix: str
    shards: int
    plan: dict[str, Any]

    @property
    def folder(self) -> str:
        """The folder of the notes."""
        return f"{self.prefix}.progress"

    def path(self, shard: int) -> str:
        return shard_path(self.prefix, shard, self.shards)

    def note(self, shard: int) -> str:
        return os.path.join(self.folder, f"{shard:05d}.json")

    @contextlib.contextmanager
    def claim(self) -> Iterator[None]:
        """Reserves the prefix while the block runs, for one run at a time."""
        import tensorflow as tf

        tf.io.gfile.makedirs(self.folder)
        with contextlib.ExitStack() as stack:
            if "://" not in self.folder:  # other file systems have no locks
                lock = stack.enter_context(open(os.path.join(self.folder, "lock"), "w"))
                if not take_lock(lock):
                    raise ValueError(f"{self.prefix}: another process is writing it")
            stack.callback(self.remove_temporary)
            self.remove_temporary()
            yield

    def check_complete(self, manifest: dict[str, Any]) -> None:
        """Refuses finished output of another plan, or that has changed."""
        path, entries = manifest_path(self.prefix), manifest["shards"]
        made = (manifest[name] for name in ("vocabulary_sha256", "settings"))
        self._check_plan(_plan(manifest["kind"], len(entries), *made), path)
        for shard, entry in enumerate(entries):
            if not self._is_whole(shard, entry):
                raise ValueError(
                    f"{self.path(shard)}: is missing or changed since it was written; remove "
                    f"{path} to make everything anew"
                )

    def _check_plan(self, plan: dict[str, Any], path: str) -> None:
        for name in sorted(plan.keys() | self.plan.keys()):
            there, here = (json.dumps(each.get(name))[:60] for each in (plan, self.plan))
            if plan.get(name) != self.plan.get(name):
                raise ValueError(
                    f"{path}: {self.prefix}-* were made with {name}={there}, not {here}; write "
                    "elsewhere, or remove both"
                )

    def _is_whole(self, shard: int, entry: dict[str, Any]) -> bool:
        import tensorflow as tf

        path = self.path(shard)
        return tf.io.gfile.exists(path) and tf.io.gfile.stat(path).length == entry["bytes"]

    def read_notes(self) -> dict[int, dict]:
        """The `entry`, `counts` and `damaged` of each finished shard; refuses those of others."""
        import tensorflow as tf

        names = (re.fullmatch(r"(\d{5,})\.json", name) for name in tf.io.gfile.listdir(self.folder))
        shards = sorted(int(name[1]) for name in names if name)
        with concurrent.futures.ThreadPoolExecutor(16) as pool:  # remote files are slow
            notes = zip(shards, pool.map(self._read_note, shards), strict=True)
            return {shard: note for shard, note in notes if note is not None}

    def _read_note(self, shard: int) -> dict | None:
        import tensorflow as tf

        try:
            with tf.io.gfile.GFile(self.note(shard)) as file:
                note = json.load(file)
        except ValueError:  # the machine failed before all of it was on the disk
            return None
        self._check_plan(note["plan"], self.folder)
        return note if self._is_whole(shard, note["entry"]) else None

    def remove_temporary(self) -> None:
        """Removes the half-written files of workers that were killed."""
        import tensorflow as tf

        for end in (f"-{'[0-9]' * 5}-of-*.tmp-*", ".progress/*.tmp-*"):
            for path in tf.io.gfile.glob(self.prefix + end):
                with contextlib.suppress(tf.errors.NotFoundError):
                    tf.io.gfile.remove(path)

    def remove_notes(self, and_shards: bool = False) -> None:
        import tensorflow as tf

        for shard in range(self.shards if and_shards else 0):
            tf.io.gfile.remove(self.path(shard))
        if tf.io.gfile.exists(self.folder):
            tf.io.gfile.rmtree(self.folder)


def _make_shards(job: ShardJob, output: _Output, missing: list[int], workers: Workers) -> None:
    """Makes the missing shards, and reports the progress of those that this machine makes."""
    make = functools.partial(_make_shard, job, output)
    began, made = time.monotonic(), []
    with doing(f"{output.prefix}: making shards") as reach:

        def report(counts: dict[str, int]) -> None:
            made.append(counts.get(job.unit, 0))
            left = len(missing) - len(made)
            seconds = time.monotonic() - began
            reach(
                f"{output.shards - left} of {output.shards}, {sum(made) / seconds:,.0f} {job.unit} "
                f"a second, {duration(left * seconds / len(made))} left"
            )

        processes = min(workers.processes, len(missing))
        try:
            if workers.runner:
                _make_by_beam(missing, make, workers.options)
            elif processes > 1:
                call_in_processes(make, missing, processes, report)
            else:
                for shard in missing:
                    report(make(shard))
        except concurrent.futures.process.BrokenProcessPool as error:
            raise ValueError(
                "a worker process ended before its work was done, perhaps because memory ran out; "
                "run the same command again, with fewer processes: finished shards are kept"
            ) from error


def _make_shard(job: ShardJob, output: _Output, shard: int) -> dict[str, int]:
    """Makes one shard and notes that it is finished; returns its counts."""
    load_tensorflow()  # quietly, in each worker
    with (LineFile if job.kind == DOCUMENTS else RecordFile)(output.path(shard)) as file:
        counts, damaged = job.write_shard(shard, output.shards, file)
    note = {"entry": file.entry, "counts": counts, "damaged": damaged, "plan": output.plan}
    write_atomically(output.note(shard), json.dumps(note))
    return counts


def _make_by_beam(
    missing: list[int], make: Callable[[int], dict[str, int]], options: Sequence[str]
) -> None:
    """Makes shards with a Beam runner, which tries again where a shard fails."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    pipeline = beam.Pipeline(options=PipelineOptions(list(options)))
    _ = (
        pipeline
        | "Missing shards" >> beam.Create(missing)
        | "One to each worker" >> beam.Reshuffle()
        | "Make shard" >> beam.Map(make)
    )
    result = pipeline.run()
    try:
        result.wait_until_finish()
    except BaseException:
        with contextlib.suppress(Exception):
            result.cancel()
        raise
