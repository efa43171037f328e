"""Parses what follows `--` on the command line of a job: where its work is done.

It is parsed before the work, and before TensorFlow is loaded, so a job that cannot run is refused
at once.
"""

import dataclasses
import importlib.util
from collections.abc import Sequence

from pipelines.command_line import install
from pipelines.cores import available_cores
from pipelines.flags import define_flags, parse_known_flags

_LOCAL_RUNNERS = {"", "DirectRunner", "direct", "directrunner"}


@dataclasses.dataclass(frozen=True)
class WorkerArguments:
    """Where the work is done.

    Attributes:
        processes: the most processes on this machine.
        runner: the name of Beam's runner; empty for processes on this machine.
        options: all arguments, for Beam.
    """

    processes: int
    runner: str = ""
    options: tuple[str, ...] = ()


def parse_worker_arguments(arguments: Sequence[str]) -> WorkerArguments:
    """Parses what follows `--`: the number of processes, or the runner and other options of Beam.

    Raises:
        ValueError: an argument is bad, or Beam is missing.
    """
    values = define_flags(
        ("runner", "", "Beam's runner; processes on this machine if empty."),
        ("direct_num_workers", 0, "Processes on this machine; 0: one for each core.", 0),
    )
    others = parse_known_flags(values, arguments)
    if values.runner in _LOCAL_RUNNERS:
        if others:
            raise ValueError(f"{others[0]}: needs a runner of Beam")
        return WorkerArguments(values.direct_num_workers or available_cores())
    if importlib.util.find_spec("apache_beam") is None:
        raise ValueError(f"runner {values.runner} needs apache-beam; run: {install('beam')}")
    return WorkerArguments(0, values.runner, tuple(arguments))
