"""Measures speed, in one table: ours, a peer's, what the machine allows, and the target.

    python -m benchmarks [--only=NAME,...] [--quick] [--output=FILE]

Each job is another benchmark in a process of its own, in which its sides take turns. A ratio is the
median over the rounds and says how many times as fast as the peer ours is. The ceiling is what this
machine does with the matrix products alone, or with bare decoding, and the share is how much of it
ours reaches. A job that fails is reported, and the others continue. A job whose packages are not
installed is left out (the extra `parity` has them). The status is 1 if a job fails or a target is
missed.

`--quick` uses tiny sizes and few rounds, to see whether everything works. Its status is 1 only if a
job fails or a ratio is below half of its target. `--only` takes names or beginnings of names.
`--output` writes rows as JSON lines.
"""

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
import time

from benchmarks.speed_table import Row, formatted

OPTIONAL = ("torch", "transformers", "accelerate", "keras_cv", "sklearn", "PIL")


@dataclasses.dataclass(frozen=True)
class Job:
    """A benchmark's module and flags, those that `--quick` changes, and its environment."""

    module: str
    flags: dict[str, object]
    quick: dict[str, object]
    environment: dict[str, str] = dataclasses.field(default_factory=dict)

    def command(self, quick: bool) -> list[str]:
        """The command line."""
        flags = self.flags | (self.quick if quick else {})
        values = [f"--{name}={value}" for name, value in flags.items()]
        return [sys.executable, "-m", f"benchmarks.{self.module}", *values, "--json"]


def _joint(dtype, at_least, keeping=False):
    # By default glibc gives large pieces of memory back to the system after each step, which takes
    # PyTorch some time. With these settings it keeps them.
    keeps = {"GLIBC_TUNABLES": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=34359738368"}
    flags = {"dtype": dtype, "at_least": at_least, "rounds": 7}
    return Job("joint_peer", flags, {"size": "sample", "rounds": 3}, keeps if keeping else {})


_SENTENCES = {"size": "sample", "batch": 8, "steps": 8, "rounds": 2, "vocabulary": 2_000}
JOBS = {
    "joint_float32_8": _joint("float32", 1.4),
    "joint_float32_keeping": _joint("float32", 1.4, keeping=True),
    "joint_bfloat16_8": _joint("mixed_bfloat16", 1.7),
    "joint_bfloat16_keeping": _joint("mixed_bfloat16", 1.7, keeping=True),
    "start": Job("start", {"runs": 3}, {"runs": 1, "size": "sample"}),
    "fine_tuning_padded": Job("fine_tuning_peer", {"peer": "padded", "at_least": 2.0}, _SENTENCES),
    "fine_tuning_trainer": Job(
        "fine_tuning_peer", {"peer": "trainer", "at_least": 1.3}, _SENTENCES
    ),
    "images": Job(
        "image_stream",
        {"images": 256, "batches": 16, "rounds": 5},
        {"images": 64, "batches": 2, "rounds": 2},
    ),
}


def chosen(only: str) -> list[str]:
    """The names of `JOBS` that begin with one of some comma-separated beginnings; empty: all."""
    beginnings = only.split(",") if only else [""]
    for beginning in beginnings:
        if not any(name.startswith(beginning) for name in JOBS):
            raise ValueError(f"no name begins with {beginning!r}; the names are {', '.join(JOBS)}")
    return [name for name in JOBS if name.startswith(tuple(beginnings))]


def measured(name: str, quick: bool) -> list[Row]:
    """Runs a job; if it fails or was left out, one row says why."""
    job = JOBS[name]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, **job.environment}
    done = subprocess.run(job.command(quick), capture_output=True, text=True, env=environment)
    if not done.returncode:
        return [Row(**row) for row in json.loads(done.stdout.splitlines()[-1])]
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    last = lines[-1] if lines else "no output"
    missing = re.match(r"ModuleNotFoundError: No module named '(\w+)", last)
    if missing and missing[1] in OPTIONAL:
        return [Row(name, left_out=f"{missing[1]} is not installed")]
    killed = f"killed by signal {-done.returncode}; " if done.returncode < 0 else ""
    return [Row(name, failed=killed + last)]


def main() -> int:
    """Runs the benchmarks; returns the exit status."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("benchmarks", description=__doc__, formatter_class=layout)
    parser.add_argument("--only", default="", help=f"of {', '.join(JOBS)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, for CI")
    parser.add_argument("--output", default="", help="a file for rows as JSON lines")
    asked = parser.parse_args()
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
    return int(any(row.is_far_off if asked.quick else row.passes is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
