"""Reports what a command is doing: a line on stderr when something that may take long begins, and
how long everything took.

    loading TensorFlow ...
    vit: 435,722 parameters, 500 steps of 128 images, in runs/sample-vitbert/teachers/vit

A line about a beginning ends with ` ...`. Something that happens often is reported again only if it
took seconds. This module imports nothing from the project and nothing heavy.
"""

import collections
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO

SILENCE = 30.0  # seconds at most while progress can be told
_SHORT = 2.0  # seconds: what took less is not reported again
OTHER = "other"

# By kind; each second counts for the innermost block of `timed`.
_seconds: dict[str, float] = collections.defaultdict(float)
_kinds, _since = [OTHER], time.monotonic()
_said = time.monotonic()  # when the last line was printed
_doing: list[
    tuple[str, Callable[[str], None]]
] = []  # what is being done, and a function that tells how far it is; the innermost last
_took: dict[str, float] = {}  # seconds by text


def say(text: str) -> None:
    """Prints a line for the user on stderr at once; nothing if stderr cannot be written."""
    global _said
    _said = time.monotonic()
    try:
        sys.stderr.write(f"{text}\n")  # in one call: another thread may print too
        sys.stderr.flush()
    except OSError:
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Discards what a stream still holds: Python would fail to write it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def duration(seconds: float) -> str:
    """A duration in words, such as `45 s`, `12 min` or `3 h 20 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


@contextlib.contextmanager
def timed(kind: str) -> Iterator[None]:
    """Counts the time of a block, such as `steps`; it may contain other such blocks."""
    times()
    depth = len(_kinds)
    _kinds.append(kind)
    try:
        yield
    finally:
        times()
        del _kinds[depth:]


def times() -> dict[str, float]:
    """The seconds of this process so far, by kind."""
    global _since
    now = time.monotonic()
    _seconds[_kinds[-1]] += now - _since
    _since = now
    return dict(_seconds)


@contextlib.contextmanager
def doing(text: str, kind: str | None = None) -> Iterator[Callable[[str], None]]:
    """Reports that something begins, such as `loading TensorFlow`, and counts its time as `kind`.

    Yields a function that takes how far it has got, such as `batch 3 of 20`: that is printed after
    some seconds of silence.
    """
    began = time.monotonic()

    def reach(place: str) -> None:
        if time.monotonic() - _said >= SILENCE:
            say(f"{text}, {place}, {duration(time.monotonic() - began)} ...")

    depth = len(_doing)
    _doing.append((text, reach))
    if _took.get(text, _SHORT) >= _SHORT:
        say(f"{text} ...")
    try:
        with timed(kind) if kind else contextlib.nullcontext():
            yield reach
    finally:
        _took[text] = time.monotonic() - began
        del _doing[depth:]


def counted(items: Iterable, count: int, name: str = "batch") -> Iterator:
    """Yields items, and reports the count so far to `doing`."""
    for number, item in enumerate(items, 1):
        if _doing:
            _doing[-1][1](f"{name} {number:,} of {count:,}")
        yield item
