"""Makes a sharded data set on many cores or machines, and resumes where a run was stopped.

A job's output is a number of files, each a pure function of the inputs and the settings. So the
output does not depend on the number of workers, a worker's memory holds the work on one shard,
nothing large passes through Beam's shuffle, and the same command makes what a killed run did not.

While a job runs, `PREFIX.progress/` records which shards are finished. `PREFIX.manifest.json`
replaces it at the end. Any path may be local or `gs://`.

By default the workers are processes on this machine, see `local_workers`. Apache Beam runs the
work elsewhere: `--runner=DataflowRunner --project=... --region=... --temp_location=gs://...
--setup_file=./setup.py`.
"""

import abc
import collections
import json
import os
import time

from pipelines.command_line import say
from pipelines.files import check_writable, make_folder
from pipelines.flags import parse_flags
from pipelines.jobs.job_progress import duration, progress
from pipelines.jobs.worker_arguments import parse_worker_arguments
from pipelines.shards.shard_files import LineFile, RecordFile
from pipelines.shards.shard_manifest import DOCUMENTS, manifest_path, read_manifest, write_manifest


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

    def open(self, path):
        """The file of a shard, for writing.

        Args:
            path: str, local or `gs://`.

        Returns:
            `shard_files.LineFile` for documents, else `shard_files.RecordFile`.
        """
        return LineFile(path) if self.kind == DOCUMENTS else RecordFile(path)

    @abc.abstractmethod
    def write_shard(self, shard, shards, file):
        """Writes the records of one shard.

        Args:
            shard: int, from 0 to `shards - 1`.
            shards: int, how many there are.
            file: what `open` returned, entered as a context manager.

        Returns:
            counts: dict of str to int; those of all shards are added up.
            damaged: list of dicts with `file`, `record` (an int, or words) and `reason`: what
                had to be left out.

        Raises:
            ValueError: the inputs cannot be used at all.
        """


def parse_job_flags(flag_values, argv, usage, required):
    """Parses the flags of a job's command. What follows `--` says where the work is done.

    Args:
        flag_values, argv, usage, required: see `flags.parse_flags`.

    Returns:
        list of str, what follows `--`.

    Raises:
        ValueError: as `flags.parse_flags`.
    """
    here = argv.index("--") if "--" in argv else len(argv)
    parse_flags(flag_values, argv[:here], usage, required)
    return argv[here + 1 :]


def check_job(prefix, beam_args):
    """Refuses a job that could not be done, before looking for its inputs.

    Args:
        prefix, beam_args: as in `run_job`.

    Raises:
        ValueError: the output cannot be written, or `beam_args` are bad.
    """
    parse_worker_arguments(beam_args, prefix)
    folder, name = os.path.split(prefix)
    if not name:
        raise ValueError(
            f"--output={prefix}: is a folder; give the beginning of the files' names, such as "
            f"{os.path.join(folder, 'data')}"
        )
    check_writable(prefix, "output")


def choose_shards(prefix, given, automatic, count, what, flag="shards"):
    """Chooses how many files a job writes, and reports the choice.

    Without the flag, an unfinished or finished job keeps the number that it began with.

    Args:
        prefix: str, of the files.
        given: int, the value of the flag, or None.
        automatic: int, the number that suits the amount of data.
        count: int, how many inputs there are; any more files would be empty.
        what: str, what the inputs are, for the message.
        flag: str, the name of the flag.

    Returns:
        int, from 1 to `count`.
    """
    from pipelines.jobs.job_output import recorded_shards

    if given is None and (recorded := recorded_shards(prefix)):
        return recorded
    shards = max(1, min(given or automatic, count))
    if given is None:
        say(f"{prefix}: {shards:,} shard{'s' * (shards > 1)} for {count:,} {what} (--{flag})")
    elif shards < given:
        files = "file is" if shards == 1 else "files are"
        say(f"--{flag}={given}: only {count:,} {what}, so {shards:,} {files} written")
    return shards


def run_job(job, prefix, shards, beam_args=(), max_bad_records=0, vocabulary_sha256=None):
    """Makes all missing shards of a job, and the manifest.

    Args:
        job: `ShardJob`.
        prefix: str, of the files, local or `gs://`; its folder is made.
        shards: int, how many files.
        beam_args: list of str, see `worker_arguments.parse_worker_arguments`.
        max_bad_records: int, how many damaged inputs may be left out.
        vocabulary_sha256: str or None, for the manifest.

    Returns:
        dict of str to int: the counts of all shards, and `records`.

    Raises:
        ValueError: a shard could not be made, too much is damaged, the inputs hold nothing,
            `prefix` holds other data, or `beam_args` are bad.
    """
    from pipelines.jobs.job_output import JobOutput
    from pipelines.jobs.job_workers import make_all

    prefix = os.fspath(prefix)
    check_job(prefix, beam_args)
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

    make_folder(os.path.dirname(prefix) or ".", "output")
    with output.claimed():
        finished = output.finished()
        if len(_damaged(finished)) > max_bad_records:  # the inputs may have been fixed
            finished = {s: result for s, result in finished.items() if not result["damaged"]}
        missing = [shard for shard in range(shards) if shard not in finished]
        if finished:
            say(f"{prefix}: {len(finished)} of {shards} shards already exist")
        unit, started = job.unit, time.monotonic()
        with progress(prefix, shards, len(finished), unit, output.poller(finished, unit)):
            make_all(missing, job, output, beam_args)
        results = output.finished()
        output.raise_if_unfinished(results)
        damaged = _damaged(results)
        _check_damage(damaged, max_bad_records)
        if not any(result["entry"]["records"] for result in results.values()):
            output.remove()
            raise ValueError(
                f"--output={prefix}: nothing to write, the inputs hold no {unit}; give others"
            )
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


def _check_damage(damaged, max_bad_records):
    if len(damaged) > max_bad_records:
        file, record, reason = (damaged[0][field] for field in ("file", "record", "reason"))
        record = record if isinstance(record, str) else f"record {record}"
        raise ValueError(
            f"{file}: {record}: {reason}; {len(damaged)} damaged in all: fix the file, or leave "
            f"them out with --max_bad_records={len(damaged)} (what was made is kept for that)"
        )
