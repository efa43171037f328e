"""Makes the shards of a job: in this process, in processes of this machine, or by a Beam runner.

Beam only hands out the numbers of shards. What a worker has to say, errors included, it leaves in
files, since runners differ in what they bring back.
"""

import argparse
import contextlib
import functools
import io
import os
import pickle
import sys
import traceback

from pipelines.command_line import UserError, one_line
from pipelines.jobs import local_beam
from pipelines.shards.shard_files import shard_path

_LOCAL_RUNNERS = {None, "DirectRunner", "direct", "directrunner"}


def make_all(missing, job, output, beam_args):
    """Makes the missing shards of a job: in this process if one is enough, or else by Beam.

    A failure of a worker need not be an exception here: see `JobOutput.raise_if_unfinished`.

    Args:
        missing: list of int.
        job: `ShardJob`.
        output: `JobOutput`.
        beam_args: list of str, options of Beam.

    Raises:
        UserError: apache-beam is missing, its options are bad, or a worker died.
    """
    runner, workers = _runner_and_workers(beam_args)
    if runner in _LOCAL_RUNNERS and (workers == 1 or len(missing) <= 1):
        for shard in missing:
            _make_shard_here(shard, job, output)
        return
    options = _beam_options(beam_args)
    task = functools.partial(_make_shard_of_pickle, _pickle((job, output)))
    if runner in _LOCAL_RUNNERS:
        try:
            local_beam.run_local(
                functools.partial(make_shards, missing, functools.partial(task, is_local=True)),
                options,
                min(workers, len(missing)),
            )
        except local_beam.WorkerDied as error:
            raise UserError(
                f"{error}, perhaps for want of memory; finished shards are kept: run the same "
                "command again, with fewer processes by -- --direct_num_workers=N"
            ) from error
        finally:
            output.clear_temporary()
        return
    if runner.lower().startswith("dataflow") and "://" not in output.prefix:
        raise UserError(f"--output={output.prefix}: {runner} cannot write there; give a gs:// path")

    import apache_beam as beam

    pipeline = beam.Pipeline(options=options)
    make_shards(missing, task, pipeline)
    result = pipeline.run()
    try:
        result.wait_until_finish()
    except BaseException:
        with contextlib.suppress(Exception):
            result.cancel()
        raise


def make_shards(missing, task, pipeline):
    """Applies to a Beam pipeline: `task` for each of the `missing` shards."""
    import apache_beam as beam

    return (
        pipeline
        | "Missing shards" >> beam.Create(missing)
        | "One to each worker" >> beam.Reshuffle()
        | "Make shard" >> beam.Map(task)
    )


def _make_shard(shard, job, output):
    """Makes one shard and notes that it is finished."""
    path = shard_path(output.prefix, shard, output.shards)
    with job.open(path) as file:
        counts, damaged = job.write_shard(shard, output.shards, file)
    output.note(shard, {"entry": file.entry, "counts": dict(counts), "damaged": list(damaged)})


def _make_shard_here(shard, job, output):
    """The same on this machine, where a full disk and the like are the user's."""
    import tensorflow as tf

    system_errors = (OSError, tf.errors.ResourceExhaustedError, tf.errors.PermissionDeniedError)
    try:
        _make_shard(shard, job, output)
    except system_errors as error:
        path = shard_path(output.prefix, shard, output.shards)
        raise UserError(
            f"{path}: cannot be made ({one_line(error)}); see to that and run the same command "
            "again"
        ) from error


def _make_shard_of_pickle(pickled, shard, is_local=False):
    """What a worker does. The first error of all is left in a file, and ends the work of all.

    Beam would wrap an exception in its own and lose its type. Where workers are on other machines,
    an error that is not the user's is left to Beam, which tries again.
    """
    job, output = _unpickle(*pickled)
    if output.error() is None:
        try:
            (_make_shard_here if is_local else _make_shard)(shard, job, output)
        except UserError as error:
            output.note_error(one_line(error))
        except Exception as error:
            if not is_local:
                raise
            output.note_error(f"shard {shard}: {one_line(error)}", traceback.format_exc())


def available_cores():
    """How many cores this process may use; where the system does not say (macOS), all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _runner_and_workers(beam_args):
    """The runner's name or None, and how many local processes."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--runner")
    parser.add_argument("--direct_num_workers", type=int, default=0)
    try:
        known, _ = parser.parse_known_args(list(beam_args))
    except SystemExit:
        raise UserError("--direct_num_workers must be a whole number") from None
    return known.runner, known.direct_num_workers or available_cores()


def _beam_options(beam_args):
    """Beam's options.

    Raises:
        UserError: apache-beam is missing, or an option is not its own.
    """
    try:
        with local_beam.quiet_import():
            from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise UserError(
            'apache-beam is not installed; run: pip install "keras-vitbert[beam]", or use one '
            "process: -- --direct_num_workers=1"
        ) from None
    try:
        with local_beam.quiet_import():
            options = PipelineOptions(list(beam_args))
            known = options.get_all_options()
            unknown = options.get_all_options(retain_unknown_options=True).keys() - known.keys()
    except SystemExit:
        raise UserError(f"Beam refuses its options: {' '.join(beam_args)}") from None
    runner = known["runner"]
    if unknown and (runner in _LOCAL_RUNNERS or runner.lower().startswith("dataflow")):
        raise UserError(f"Beam does not know --{min(unknown)}; mend what follows --")
    return options  # job servers of other runners have options that only they know


def _pickle(value):
    """Pickles by reference what the module that runs as `__main__` defines.

    Returns:
        (bytes, name): the pickle, and the name under which workers can import that module.
    """
    spec = sys.modules["__main__"].__spec__
    return pickle.dumps(value), spec.name if spec is not None else None


@functools.lru_cache(maxsize=1)  # once for all shards that a process makes
def _unpickle(data, main_name):
    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            return super().find_class(main_name if module == "__main__" else module, name)

    return Unpickler(io.BytesIO(data)).load()
