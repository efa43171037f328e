"""Makes the shards of a job: in this process, in local processes, or with a Beam runner.

Beam only hands out the indices of shards. It is imported only if its runner is asked for.
"""

import concurrent.futures.process
import contextlib
import functools

import tensorflow as tf

from pipelines.command_line import load_tensorflow, one_line
from pipelines.jobs.local_workers import call_in_processes
from pipelines.jobs.worker_arguments import beam_options, parse_worker_arguments
from pipelines.shards.shard_files import shard_path


def make_all(missing, job, output, arguments):
    """Makes the missing shards of a job.

    Args:
        missing: list of int.
        job: `ShardJob`.
        output: `JobOutput`.
        arguments: list of str, see `worker_arguments.parse_worker_arguments`.

    Raises:
        ValueError: an argument is bad, a shard cannot be made, a worker process died, or Beam is
            missing. Remote failures need not raise here, see `JobOutput.raise_if_unfinished`.
    """
    arguments = parse_worker_arguments(arguments, output.prefix)
    if arguments.runner is not None:
        _make_by_beam(missing, job, output, arguments)
        return
    workers = min(arguments.processes, len(missing))
    if workers <= 1:
        for shard in missing:
            _make_shard_here(job, output, shard)
        return
    try:
        task = functools.partial(_make_shard_in_worker, job, output)
        call_in_processes(task, missing, workers)
    except concurrent.futures.process.BrokenProcessPool as error:
        raise ValueError(
            "a worker process ended before its work was done, perhaps because memory ran out; "
            "finished shards are kept: run the same command again, with fewer processes by "
            "-- --direct_num_workers=N"
        ) from error
    finally:
        output.clear_temporary()


def _make_shard(job, output, shard):
    """Makes one shard and notes that it is finished."""
    path = shard_path(output.prefix, shard, output.shards)
    with job.open(path) as file:
        counts, damaged = job.write_shard(shard, output.shards, file)
    output.note(shard, {"entry": file.entry, "counts": dict(counts), "damaged": list(damaged)})


def _make_shard_here(job, output, shard):
    """The same on this machine, where the user can fix a full disk and the like."""
    system_errors = (OSError, tf.errors.ResourceExhaustedError, tf.errors.PermissionDeniedError)
    try:
        _make_shard(job, output, shard)
    except system_errors as error:
        path = shard_path(output.prefix, shard, output.shards)
        raise ValueError(
            f"{path}: cannot be made ({one_line(error)}); fix that and run the same command again"
        ) from error


def _make_shard_in_worker(job, output, shard):
    """The same in a worker process. It raises only errors that can always be pickled."""
    load_tensorflow()
    try:
        _make_shard_here(job, output, shard)
    except ValueError as error:
        raise ValueError(one_line(error)) from error
    except Exception as error:
        raise RuntimeError(f"shard {shard}: {one_line(error)}") from error


def _make_shard_elsewhere(job, output, shard):
    """The same on another machine. The first `ValueError` is noted and ends all work.

    Beam would wrap it and lose its type. Other errors are left to Beam, which retries.
    """
    if output.error() is None:
        try:
            _make_shard(job, output, shard)
        except ValueError as error:
            output.note_error(one_line(error))


def _make_by_beam(missing, job, output, workers):
    """Makes shards with a Beam runner."""
    options = beam_options(workers)
    import apache_beam as beam

    pipeline = beam.Pipeline(options=options)
    (
        pipeline
        | "Missing shards" >> beam.Create(missing)
        | "One to each worker" >> beam.Reshuffle()
        | "Make shard" >> beam.Map(functools.partial(_make_shard_elsewhere, job, output))
    )
    result = pipeline.run()
    try:
        result.wait_until_finish()
    except BaseException:
        with contextlib.suppress(Exception):
            result.cancel()
        raise
