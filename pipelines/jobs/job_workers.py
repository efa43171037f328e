"""Makes the shards of a job: in this process, in processes of this machine, or by a Beam runner.

Beam, which only hands out the indices of shards, is imported where its runner is asked for.
"""

import argparse
import concurrent.futures.process
import contextlib
import functools
import logging
import os

import tensorflow as tf

from pipelines.command_line import UserError, load_tensorflow, one_line
from pipelines.jobs.local_workers import call_in_processes
from pipelines.shards.shard_files import shard_path

_LOCAL_RUNNERS = {None, "DirectRunner", "direct", "directrunner"}


def make_all(missing, job, output, arguments):
    """Makes the missing shards of a job.

    Args:
        missing: list of int.
        job: `ShardJob`.
        output: `JobOutput`.
        arguments: list of str: `--direct_num_workers`, or `--runner` and other options of Beam.

    Raises:
        UserError: an argument is bad, a shard cannot be made, a worker process died, or Beam is
            missing. Failures elsewhere need not raise here, see `JobOutput.raise_if_unfinished`.
    """
    runner, workers, others = _parse(arguments)
    if runner not in _LOCAL_RUNNERS:
        _make_by_beam(missing, job, output, runner, arguments)
        return
    if others:
        raise UserError(
            f"{others[0]}: without a --runner=... of Beam only --direct_num_workers=N can follow --"
        )
    workers = min(workers, len(missing))
    if workers <= 1:
        for shard in missing:
            _make_shard_here(job, output, shard)
        return
    try:
        task = functools.partial(_make_shard_in_worker, job, output)
        call_in_processes(task, missing, workers)
    except concurrent.futures.process.BrokenProcessPool as error:
        raise UserError(
            "a worker process ended before its work was done, perhaps because memory ran out; "
            "finished shards are kept: run the same command again, with fewer processes by "
            "-- --direct_num_workers=N"
        ) from error
    finally:
        output.clear_temporary()


def available_cores():
    """How many cores this process may use; all, where the system does not say (macOS)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _parse(arguments):
    """The runner's name or None, how many local processes, and all other arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--runner")
    parser.add_argument("--direct_num_workers", default="0")
    try:
        known, others = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise UserError(f"{error.argument_name}: {error.message}") from None
    if not known.direct_num_workers.isdecimal():
        raise UserError("--direct_num_workers must be a whole number")
    return known.runner, int(known.direct_num_workers) or available_cores(), others


def _make_shard(job, output, shard):
    """Makes one shard and notes that it is finished."""
    path = shard_path(output.prefix, shard, output.shards)
    with job.open(path) as file:
        counts, damaged = job.write_shard(shard, output.shards, file)
    output.note(shard, {"entry": file.entry, "counts": dict(counts), "damaged": list(damaged)})


def _make_shard_here(job, output, shard):
    """The same on this machine, where a full disk and the like are for the user to fix."""
    system_errors = (OSError, tf.errors.ResourceExhaustedError, tf.errors.PermissionDeniedError)
    try:
        _make_shard(job, output, shard)
    except system_errors as error:
        path = shard_path(output.prefix, shard, output.shards)
        raise UserError(
            f"{path}: cannot be made ({one_line(error)}); fix that and run the same command again"
        ) from error


def _make_shard_in_worker(job, output, shard):
    """The same in a worker process. Its errors are of kinds that can always be pickled."""
    load_tensorflow()
    try:
        _make_shard_here(job, output, shard)
    except UserError as error:
        raise UserError(one_line(error)) from error
    except Exception as error:
        raise RuntimeError(f"shard {shard}: {one_line(error)}") from error


def _make_shard_elsewhere(job, output, shard):
    """The same on another machine. The first `UserError` is noted, and ends all work.

    Beam would wrap it and lose its type. Other errors are left to Beam, which tries again.
    """
    if output.error() is None:
        try:
            _make_shard(job, output, shard)
        except UserError as error:
            output.note_error(one_line(error))


def _make_by_beam(missing, job, output, runner, arguments):
    """Makes shards with a runner of Beam."""
    if runner.lower().startswith("dataflow") and "://" not in output.prefix:
        raise UserError(f"--output={output.prefix}: {runner} cannot write there; give a gs:// path")
    options = _beam_options(runner, arguments)
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


def _beam_options(runner, arguments):
    """Beam's options.

    Raises:
        UserError: apache-beam is missing, or does not know an option.
    """
    logging.disable(logging.WARNING)  # Beam warns of missing parts that are not needed
    try:
        from apache_beam.options.pipeline_options import PipelineOptions

        options = PipelineOptions(list(arguments))
        known = options.get_all_options()
        unknown = options.get_all_options(retain_unknown_options=True).keys() - known.keys()
    except ImportError:
        raise UserError(
            f'--runner={runner} needs apache-beam; run: pip install "keras-vitbert[beam]", or '
            "leave out --runner to work on this machine"
        ) from None
    except SystemExit:
        raise UserError(f"Beam refuses its options: {' '.join(arguments)}") from None
    finally:
        logging.disable(logging.NOTSET)
    if unknown and runner.lower().startswith("dataflow"):
        raise UserError(f"Beam does not know --{min(unknown)}; fix what follows --")
    return options  # job servers of other runners have options of their own
