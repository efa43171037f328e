"""Makes the shards of a job: in this process, in local processes, or with a Beam runner.

Beam only hands out the indices of shards. It is imported only if its runner is asked for.
"""

import concurrent.futures.process
import contextlib
import functools
from collections.abc import Sequence

from pipelines.command_line import load_tensorflow
from pipelines.prepare.job_output import JobOutput
from pipelines.prepare.local_workers import call_in_processes
from pipelines.prepare.worker_arguments import WorkerArguments
from pipelines.shards.shard_files import shard_path


def make_all(missing: Sequence[int], job, output: JobOutput, workers: WorkerArguments) -> None:
    """Makes the missing shards of a `ShardJob`.

    Raises:
        ValueError: a worker process died.
        Exception: what the first shard that cannot be made raised; of Beam, its own.
    """
    if workers.runner:
        _make_by_beam(missing, job, output, workers.options)
        return
    processes = min(workers.processes, len(missing))
    if processes <= 1:
        for shard in missing:
            _make_shard(job, output, shard)
        return
    try:
        task = functools.partial(_make_shard_in_worker, job, output)
        call_in_processes(task, missing, processes)
    except concurrent.futures.process.BrokenProcessPool as error:
        raise ValueError(
            "a worker process ended before its work was done, perhaps because memory ran out; run "
            "the same command again, with fewer processes: finished shards are kept"
        ) from error
    finally:
        output.clear_temporary()


def _make_shard(job, output, shard):
    """Makes one shard and notes that it is finished."""
    with job.open(shard_path(output.prefix, shard, output.shards)) as file:
        counts, damaged = job.write_shard(shard, output.shards, file)
    output.note(shard, {"entry": file.entry, "counts": dict(counts), "damaged": list(damaged)})


def _make_shard_in_worker(job, output, shard):
    load_tensorflow()
    _make_shard(job, output, shard)


def _make_by_beam(missing, job, output, options):
    """Makes shards with a Beam runner, which tries again where a shard fails."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    pipeline = beam.Pipeline(options=PipelineOptions(list(options)))
    (
        pipeline
        | "Missing shards" >> beam.Create(missing)
        | "One to each worker" >> beam.Reshuffle()
        | "Make shard" >> beam.Map(functools.partial(_make_shard, job, output))
    )
    result = pipeline.run()
    try:
        result.wait_until_finish()
    except BaseException:
        with contextlib.suppress(Exception):
            result.cancel()
        raise
