"""Measures speed, in one table: ours, a peer's, what the machine allows, and the target.

    python -m benchmarks [--only=NAME,...] [--quick] [--output=FILE]

Each job is a process of its own, in which its sides take turns. A ratio is the median over the
rounds and says how many times as fast as the peer ours is. The ceiling is what this machine does
with the matrix products alone, or with bare decoding, and the share is how much of it ours reaches.
A job that fails is reported, and the others continue. A job whose packages are not installed is
left out (the extra `parity` has them). The status is 1 if a job fails or a target is missed.

`--quick` uses tiny sizes and few rounds, to see whether everything works. Its status is 1 only if a
job fails or a ratio is below half of its target. `--only` takes names or beginnings of names.
`--output` writes rows as JSON lines.
"""

import argparse
import dataclasses
import importlib
import json
import os
import subprocess
import sys
import time
from typing import Any

from benchmarks.speed_table import Row, formatted

_OPTIONAL = ("torch", "transformers", "accelerate", "keras_cv", "sklearn", "PIL")


@dataclasses.dataclass(frozen=True)
class Job:
    """A process that measures one or more rows.

    Attributes:
        function: str, `MODULE:FUNCTION` in `benchmarks`, which returns a list of `Row`.
        settings: dict, its arguments.
        quick: dict, those that `--quick` changes.
        environment: dict, environment variables of its process.
    """

    function: str
    settings: dict[str, Any]
    quick: dict[str, Any]
    environment: dict[str, str] = dataclasses.field(default_factory=dict)

    def rows(self, quick):
        """Measures: list of `Row`."""
        module, _, name = self.function.partition(":")
        function = getattr(importlib.import_module(f"benchmarks.{module}"), name)
        return function(**(self.settings | (self.quick if quick else {})))


# By default glibc gives large pieces of memory back to the system after each step, which takes
# PyTorch some time. With these settings it keeps them.
_KEEPING = {
    "GLIBC_TUNABLES": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=34359738368",
}


def _joint(dtype, images, texts, rounds, target, apart=False, keeping=False):
    settings = {"size": "base", "dtype": dtype, "images": images, "texts": texts}
    settings |= {"rounds": rounds, "target": target, "apart": apart}
    settings["more"] = ", memory kept" if keeping else ""
    quick = {"size": "sample", "rounds": 3, "apart": False}
    return Job("joint_peer:rows", settings, quick, _KEEPING if keeping else {})


_SENTENCES = {"size": "sample", "batch": 8, "steps": 8, "rounds": 2, "vocabulary": 2_000}
JOBS = {
    "joint_float32_8": _joint("float32", 8, 1, 7, 1.4),
    "joint_float32_keeping": _joint("float32", 8, 1, 7, 1.4, keeping=True),
    "joint_float32_32": _joint("float32", 32, 4, 3, 1.4, apart=True),
    "joint_bfloat16_8": _joint("mixed_bfloat16", 8, 1, 7, 1.7),
    "joint_bfloat16_keeping": _joint("mixed_bfloat16", 8, 1, 7, 1.7, keeping=True),
    "joint_bfloat16_32": _joint("mixed_bfloat16", 32, 4, 3, 1.7, apart=True),
    "start_sample": Job("start:sample_rows", {"runs": 3}, {"runs": 1}),
    "start_base": Job(
        "start:step_rows",
        {"size": "base", "dtype": "float32", "images": 8, "texts": 1},
        {"size": "sample"},
    ),
    "fine_tuning_padded": Job(
        "fine_tuning_peer:rows", {"other": "padded", "target": 2.0, "rounds": 5}, _SENTENCES
    ),
    "fine_tuning_trainer": Job(
        "fine_tuning_peer:rows", {"other": "trainer", "target": 1.3, "rounds": 5}, _SENTENCES
    ),
    "images": Job(
        "image_stream:rows",
        {"images": 256, "batches": 16, "rounds": 5},
        {"images": 64, "batches": 2, "rounds": 2},
    ),
}


def chosen(only):
    """The names that `--only` selects, in the order of `JOBS`.

    Args:
        only: str, comma-separated beginnings of names; empty for all.

    Raises:
        ValueError: no name begins with one of them.
    """
    beginnings = only.split(",") if only else [""]
    for beginning in beginnings:
        if not any(name.startswith(beginning) for name in JOBS):
            raise ValueError(f"no name begins with {beginning!r}; the names are {', '.join(JOBS)}")
    return [name for name in JOBS if name.startswith(tuple(beginnings))]


def measured(name, quick):
    """Runs a job in a process of its own.

    Args:
        name: str, of `JOBS`.
        quick: bool.

    Returns:
        list of `Row`; if the job failed or was left out, one row that says why.
    """
    command = [sys.executable, "-m", "benchmarks", f"--job={name}", *["--quick"] * quick]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, **JOBS[name].environment}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        last = lines[-1].strip() if lines else "no output"
        if done.returncode < 0:
            last = f"killed by signal {-done.returncode}; {last}"
        return [Row(name, failed=last)]
    return [Row(**row) for row in json.loads(done.stdout.splitlines()[-1])]


def _run_job(name, quick):
    """Measures in this process, and prints the rows as JSON."""
    try:
        rows = JOBS[name].rows(quick)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _OPTIONAL:
            raise
        rows = [Row(name, left_out=f"{error.name} is not installed")]
    print("\n" + json.dumps([dataclasses.asdict(row) for row in rows]))


def main():
    """Runs the benchmarks; returns the exit status."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("benchmarks", description=__doc__, formatter_class=layout)
    parser.add_argument("--only", default="", help=f"of {', '.join(JOBS)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, for CI")
    parser.add_argument("--output", default="", help="a file for rows as JSON lines")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)  # of this process
    asked = parser.parse_args()
    if asked.job:
        _run_job(asked.job, asked.quick)
        return 0
    try:
        names = chosen(asked.only)
    except ValueError as error:
        parser.error(f"--only: {error}")
    rows = []
    for name in names:
        began = time.monotonic()
        rows += measured(name, asked.quick)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(formatted(rows))
    if asked.output:
        with open(asked.output, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(dataclasses.asdict(row)) + "\n" for row in rows)
    return status_of(rows, asked.quick)


def status_of(rows, quick):
    """The exit status: 1 if a row fails or misses its target; in a quick run, only if by far."""
    return int(any(row.is_far_off() if quick else row.passes is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
