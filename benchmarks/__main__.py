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
import sys
import time

from benchmarks.speed_table import Row, formatted, outcome


@dataclasses.dataclass(frozen=True)
class Job:
    """A benchmark's module and flags, and those that `--quick` changes."""

    module: str
    flags: dict[str, object]
    quick: dict[str, object]

    def command(self, quick: bool) -> list[str]:
        """The command line."""
        flags = self.flags | (self.quick if quick else {})
        values = [f"--{name}={value}" for name, value in flags.items()]
        return [sys.executable, "-m", f"benchmarks.{self.module}", *values, "--json"]


_SENTENCES = {"size": "sample", "batch": 8, "steps": 8, "rounds": 2, "vocabulary": 2_000}
JOBS = {
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
    found = outcome(job.command(quick), {})
    if found.value is None:
        return [Row(name, failed=found.failed, left_out=found.left_out)]
    return [Row(**row) for row in found.value]


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
