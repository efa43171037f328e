"""What the benchmarks share: sides that take turns or have processes, a table, a command line."""

import argparse
import dataclasses
import inspect
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Self

OPTIONAL = ("jax", "torch", "transformers", "accelerate", "keras_cv", "sklearn", "PIL")
HEADER = ("what", "ours", "peer", "ratio", "ceiling", "share", "target", "pass")
SECONDS = "s"


def interleaved(
    sides: dict[str, Callable[[], float]], rounds: int, warm: int = 1
) -> dict[str, list[float]]:
    """Calls all sides in turns, in reverse order every other round: all meet the same load.

    Args:
        sides: each returns its seconds or its rate, see `timed`.
        rounds: how many are counted.
        warm: rounds before, which trace and are not counted.
    """
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(-warm, rounds):
        for name in list(sides)[:: 1 if number % 2 else -1]:
            value = sides[name]()
            if number >= 0:
                found[name].append(value)
    return found


def timed(run: Callable[[], object]) -> Callable[[], float]:
    """A side whose value is the seconds of a call."""

    def seconds():
        began = time.perf_counter()
        run()
        return time.perf_counter() - began

    return seconds


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a benchmark in a process of its own has come to."""

    value: Any = None  # what the last line that it printed says in JSON
    failed: str = ""  # why there is none
    left_out: str = ""  # the same, of what is not installed
    seconds: float = 0.0


def outcome(command: list[str], environment: dict[str, str]) -> Outcome:
    """Runs a benchmark, with further variables in its environment."""
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, **environment}
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    seconds = time.monotonic() - began
    if not done.returncode:
        return Outcome(json.loads(done.stdout.splitlines()[-1]), seconds=seconds)
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    last = lines[-1] if lines else "no output"
    missing = re.match(r"ModuleNotFoundError: No module named '(\w+)", last)
    if missing and missing[1] in OPTIONAL:
        return Outcome(left_out=f"{missing[1]} is not installed", seconds=seconds)
    killed = f"killed by signal {-done.returncode}; " if done.returncode < 0 else ""
    return Outcome(failed=killed + last, seconds=seconds)


@dataclasses.dataclass(frozen=True)
class Row:
    """The measurements of one thing."""

    what: str
    ours: float | None = None
    unit: str = SECONDS  # of which fewer are better; or a rate such as `images/s`
    peer: float | None = None
    ratio: float | None = None  # how many times as fast as the peer ours is
    ceiling: float | None = None  # what the machine would allow
    at_least: float | None = None  # the target of the ratio
    at_most: float | None = None  # the target of `ours`, for seconds without a peer
    note: str = ""  # a line below the table
    failed: str = ""  # why there are no figures
    left_out: str = ""  # the same, of what is not installed

    @classmethod
    def compared(
        cls, what: str, ours: list[float], peer: list[float], unit=SECONDS, note="", **more
    ) -> Self:
        """A row of medians; the ratio is the median of the rounds' ratios."""
        pairs = zip(ours, peer, strict=True)
        ratios = sorted(b / a if unit == SECONDS else a / b for a, b in pairs)
        note = f"{len(ratios)} ratios from {ratios[0]:.2f} to {ratios[-1]:.2f}" + note
        middle, of_peer, ratio = map(statistics.median, (ours, peer, ratios))
        return cls(what, middle, unit, peer=of_peer, ratio=ratio, note=note, **more)

    @property
    def share(self) -> float | None:
        """The fraction of what the machine would allow."""
        if self.ours is None or self.ceiling is None:
            return None
        return self.ceiling / self.ours if self.unit == SECONDS else self.ours / self.ceiling

    @property
    def passes(self) -> bool | None:
        """Whether the target is met; None without one, or where nothing was measured."""
        return self._passes(1)

    @property
    def is_far_off(self) -> bool:
        """Whether the row failed, or its ratio is below half of the target; seconds differ by
        machine, and do not count."""
        return bool(self.failed) or (self.at_least is not None and self._passes(2) is False)

    def _passes(self, margin):
        if self.failed:
            return False
        if self.at_least is not None and self.ratio is not None:
            return self.ratio * margin >= self.at_least
        if self.at_most is not None and self.ours is not None:
            return self.ours <= self.at_most * margin
        return None

    def cells(self) -> list[str]:
        """The row as it is shown, one text for each of `HEADER`."""
        verdict = {True: "yes", False: "no", None: ""}[self.passes]
        target = "" if self.at_least is None else f">= {self.at_least:g}"
        if self.at_most is not None:
            target = f"<= {self.at_most:g} {self.unit}"
        return [
            self.what,
            self._figure(self.ours),
            self._figure(self.peer),
            "" if self.ratio is None else f"{self.ratio:.2f}",
            self._figure(self.ceiling),
            "" if self.share is None else f"{self.share:.0%}",
            target,
            (self.failed and "failed") or (self.left_out and "left out") or verdict,
        ]

    def _figure(self, value):
        if value is None:
            return ""
        # Three digits, but all those before the point.
        return f"{value:,.0f} {self.unit}" if value >= 100 else f"{value:.3g} {self.unit}"


def formatted(rows: list[Row]) -> str:
    """The table, with notes and errors below."""
    notes = [
        f"{row.what}: {text}"
        for row in rows
        for text in (row.failed, row.left_out, row.note)
        if text
    ]
    return "\n".join([*aligned(HEADER, [row.cells() for row in rows]), *notes])


def aligned(header, rows: list[list[str]]) -> list[str]:
    """The lines of a table in Markdown, with columns as wide as they must be."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return [f"| {' | '.join(map(str.ljust, cells, widths))} |" for cells in lines]


def command(doc: str, rows: Callable[..., list[Row]]) -> None:
    """Calls `rows` with its arguments as flags, and prints the table.

    Args:
        doc: of the module, shown by `--help`.
        rows: its arguments have defaults, which decide the types of the flags.
    """
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=doc, formatter_class=layout)
    for name, argument in inspect.signature(rows).parameters.items():
        kind = type(argument.default)
        as_flag = {"action": "store_true"} if kind is bool else {"type": kind}
        parser.add_argument(f"--{name}", default=argument.default, **as_flag)
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    values = vars(parser.parse_args())
    as_json = values.pop("json")
    found = rows(**values)
    print(json.dumps([dataclasses.asdict(row) for row in found]) if as_json else formatted(found))
    sys.stdout.flush()
