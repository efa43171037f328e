"""Parses what follows `--` on the command line of a job: where its work is done.

It is parsed before the work, and before TensorFlow is loaded, so a job that cannot run is refused
at once.
"""

import argparse
import dataclasses
import importlib.util
import logging

from pipelines.command_line import install
from pipelines.cores import available_cores

_LOCAL_RUNNERS = {None, "DirectRunner", "direct", "directrunner"}


@dataclasses.dataclass(frozen=True)
class WorkerArguments:
    """Where the work is done.

    Attributes:
        runner: str, the name of Beam's runner; None for processes on this machine.
        processes: int, the most processes on this machine.
        options: tuple of str, all arguments, for Beam.
    """

    runner: str | None
    processes: int
    options: tuple[str, ...] = ()


def parse_worker_arguments(arguments, prefix):
    """Parses what follows `--`.

    Args:
        arguments: list of str: `--direct_num_workers`, the number of processes on this machine (one
            for each core by default), or the `--runner` and other options of Beam.
        prefix: str, of the job's output.

    Returns:
        `WorkerArguments`.

    Raises:
        ValueError: an argument is bad, Beam is missing, or its runner cannot write to `prefix`.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--runner")
    parser.add_argument("--direct_num_workers", default="0")
    try:
        known, others = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise ValueError(f"{error.argument_name}: {error.message}") from None
    if not known.direct_num_workers.isdecimal():
        raise ValueError("--direct_num_workers must be a whole number")
    if known.runner not in _LOCAL_RUNNERS:
        _check_beam(known.runner, prefix)
        return WorkerArguments(known.runner, 0, tuple(arguments))
    if others:
        raise ValueError(
            f"{others[0]}: without a --runner=... of Beam only --direct_num_workers=N can follow --"
        )
    return WorkerArguments(None, int(known.direct_num_workers) or available_cores())


def beam_options(workers):
    """Beam's options.

    Args:
        workers: `WorkerArguments` with a runner.

    Returns:
        `PipelineOptions`.

    Raises:
        ValueError: apache-beam does not know an option, or is damaged.
    """
    runner, arguments = workers.runner, workers.options
    logging.disable(logging.WARNING)  # Beam warns about missing parts that are not needed
    try:
        from apache_beam.options.pipeline_options import PipelineOptions

        options = PipelineOptions(list(arguments))
        known = options.get_all_options()
        unknown = options.get_all_options(retain_unknown_options=True).keys() - known.keys()
    except ImportError:
        raise _no_beam(runner) from None
    except SystemExit:
        raise ValueError(f"Beam refuses its options: {' '.join(arguments)}") from None
    finally:
        logging.disable(logging.NOTSET)
    if unknown and runner.lower().startswith("dataflow"):
        raise ValueError(f"Beam does not know --{min(unknown)}; fix what follows --")
    return options  # job servers of other runners have options of their own


def _check_beam(runner, prefix):
    if runner.lower().startswith("dataflow") and "://" not in prefix:
        raise ValueError(f"--output={prefix}: {runner} cannot write there; give a gs:// path")
    if importlib.util.find_spec("apache_beam") is None:
        raise _no_beam(runner)


def _no_beam(runner):
    return ValueError(
        f"--runner={runner} needs apache-beam; run: {install('beam')}, or leave out --runner to "
        "work on this machine"
    )
