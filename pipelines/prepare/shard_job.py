"""Makes a sharded data set on many cores or machines, and resumes where a run was stopped.

A job's output is a number of files, each a pure function of the inputs and the settings. So the
output does not depend on the number of workers, a worker's memory holds the work on one shard,
nothing large passes through Beam's shuffle, and the same command makes what a killed run did not.

While a job runs, `PREFIX.progress/` records which shards are finished. `PREFIX.manifest.json`
replaces it at the end. Any path may be local or `gs://`.

By default the workers are processes on this machine, see `local_workers`. Apache Beam runs the
work elsewhere.
"""

import abc
import collections
import json
import os
import time

from pipelines.command_line import say
from pipelines.files import check_writable, make_folder
from pipelines.flags import parse_flags
from pipelines.prepare.worker_arguments import WorkerArguments, parse_worker_arguments
from pipelines.shards.shard_files import LineFile, RecordFile
from pipelines.shards.shard_manifest import DOCUMENTS, manifest_path, read_manifest, write_manifest
from pipelines.status import doing, duration


class ShardJob(abc.ABC):
    """Defines what is to be made. Subclasses are dataclasses that can be pickled.

    Attributes:
        kind: str, as in the manifest, see `shard_manifest`.
        unit: str, the count whose rate is shown.
    """

    kind: str
    unit: str

    @abc.abstractmethod
    def settings(self) -> dict:
        """Everything that determines the output, as a JSON-serializable dict."""

    def open(self, path: str) -> LineFile | RecordFile:
        """The file of a shard, for writing: lines for documents, else records."""
        return LineFile(path) if self.kind == DOCUMENTS else RecordFile(path)

    @abc.abstractmethod
    def write_shard(self, shard: int, shards: int, file) -> tuple[dict[str, int], list[dict]]:
        """Writes the records of one shard.

        Args:
            shard: from 0 to `shards - 1`.
            shards: how many there are.
            file: what `open` returned, entered as a context manager.

        Returns:
            Counts, those of all shards are added up; what had to be left out as damaged: dicts with
            `file`, `record` (an int, or words) and `reason`.

        Raises:
            ValueError: the inputs cannot be used at all.
        """


def parse_job_flags(flag_values, argv: list[str], usage: str, required) -> WorkerArguments:
    """Parses the flags of a job's command. What follows `--` says where the work is done.

    Args:
        flag_values, argv, usage, required: see `flags.parse_flags`.

    Raises:
        ValueError: as `flags.parse_flags`.
    """
    here = argv.index("--") if "--" in argv else len(argv)
    parse_flags(flag_values, argv[:here], usage, required)
    return parse_worker_arguments(argv[here + 1 :])


def check_job(prefix: str, workers: WorkerArguments) -> None:
    """Refuses a job that could not be done, before looking for its inputs.

    Raises:
        ValueError: the output cannot be written.
    """
    if workers.runner.lower().startswith("dataflow") and "://" not in prefix:
        raise ValueError(f"{prefix}: {workers.runner} cannot write there; give a gs:// path")
    if not os.path.basename(prefix):
        raise ValueError(f"{prefix}: is a folder; give the beginning of the files' names")
    check_writable(prefix)


def choose_shards(prefix: str, given: int | None, automatic: int, count: int, what: str) -> int:
    """Chooses how many files a job writes, and reports the choice.

    Args:
        prefix: of the files.
        automatic: the number that suits the amount of data.
        count: how many inputs there are; any more files would be empty.
        what: what the inputs are, for the message.

    Returns:
        A number from 1 to `count`.
    """
    shards = max(1, min(given or automatic, count))
    if shards != given:
        say(f"{prefix}: {shards:,} shard{'s' * (shards > 1)} for {count:,} {what}")
    return shards


def run_job(
    job: ShardJob,
    prefix: str,
    shards: int,
    workers: WorkerArguments,
    max_bad_records: int = 0,
    vocabulary_sha256: str | None = None,
) -> dict[str, int]:
    """Makes all missing shards of a job, and the manifest.

    Args:
        prefix: of the files, local or `gs://`; its folder is made.
        shards: how many files.
        max_bad_records: how many damaged inputs may be left out.
        vocabulary_sha256: for the manifest.

    Returns:
        The counts of all shards, and `records`.

    Raises:
        ValueError: a shard could not be made, too much is damaged, the inputs hold nothing, or
            `prefix` holds other data.
    """
    from pipelines.prepare.job_output import JobOutput
    from pipelines.prepare.job_workers import make_all

    plan = {
        "kind": job.kind,
        "shards": shards,
        "vocabulary_sha256": vocabulary_sha256,
        "settings": job.settings(),
    }
    output = JobOutput(prefix, json.loads(json.dumps(plan)))
    if (manifest := read_manifest(prefix)) is not None:
        output.check_finished(manifest)
        output.clear()
        say(f"{prefix}: is complete, nothing to do")
        return manifest["counts"]

    make_folder(os.path.dirname(prefix) or ".")
    with output.claimed():
        finished = output.finished()
        if len(_damaged(finished)) > max_bad_records:  # the inputs may have been fixed
            finished = {s: result for s, result in finished.items() if not result["damaged"]}
        missing = [shard for shard in range(shards) if shard not in finished]
        if finished:
            say(f"{prefix}: {len(finished)} of {shards} shards already exist")
        unit, started = job.unit, time.monotonic()
        with doing(f"{prefix}: making shards") as activity:
            activity.part = output.progress(finished, unit)
            make_all(missing, job, output, workers)
        results = output.finished()
        if len(results) < shards:  # a job elsewhere was cancelled
            raise ValueError(
                f"{prefix}: {shards - len(results)} shards were not made; run the same command "
                "again"
            )
        damaged = _damaged(results)
        if len(damaged) > max_bad_records:
            file, record, reason = (damaged[0][field] for field in ("file", "record", "reason"))
            record = record if isinstance(record, str) else f"record {record}"
            raise ValueError(
                f"{file}: {record}: {reason}; fix the file, or set max_bad_records to "
                f"{len(damaged)} (what was made is kept for that)"
            )
        if not any(result["entry"]["records"] for result in results.values()):
            output.remove()
            raise ValueError(f"{prefix}: nothing to write, the inputs hold no {unit}")
        return _finish(output, results, damaged, unit, len(finished), time.monotonic() - started)


def _finish(output, results, damaged, unit, earlier, seconds):
    """Writes the manifest and reports what was made."""
    counts = collections.Counter()
    for result in results.values():
        counts.update(result["counts"])
    ordered = [results[shard] for shard in range(output.shards)]
    write_manifest(
        output.prefix,
        output.plan["kind"],
        [result["entry"] for result in ordered],
        output.plan["settings"],
        output.plan["vocabulary_sha256"],
        dict(counts),
        damaged,
    )
    output.clear()
    prefix = output.prefix
    text = f"{prefix}: {output.shards} shards, {counts[unit]:,} {unit}, {duration(seconds)}"
    if not earlier and seconds:
        text += f", {counts[unit] / seconds:,.0f} {unit} a second"
    say(text)
    if damaged:
        say(
            f"{prefix}: {len(damaged)} damaged inputs were left out; they are listed in "
            f"{manifest_path(prefix)}"
        )
    return {"records": sum(result["entry"]["records"] for result in ordered), **counts}


def _damaged(results):
    """What is damaged in the inputs, in the order of the shards."""
    return [record for shard in sorted(results) for record in results[shard]["damaged"]]
