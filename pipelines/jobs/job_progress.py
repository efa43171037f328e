"""Prints the progress of a sharded job on stderr: shards done, rate, and time left."""

import contextlib
import sys
import threading
import time

from pipelines.status import duration

_SECONDS = 10  # between two lines
_TERMINAL_SECONDS = 2  # where the line is rewritten in place


@contextlib.contextmanager
def progress(label, shards, done, unit, poll):
    """Prints a line at intervals while the block runs.

    Args:
        label: str, begins each line.
        shards: int, all shards of the job.
        done: int, how many of them an earlier run made.
        unit: str, what the rate counts.
        poll: callable that returns (shards, units) finished since the block began.
    """
    started = time.monotonic()
    is_terminal = sys.stderr.isatty()
    ended = threading.Event()

    def show():
        while not ended.wait(_TERMINAL_SECONDS if is_terminal else _SECONDS):
            finished, units = poll()
            text = line(label, shards, done, finished, unit, units, time.monotonic() - started)
            sys.stderr.write(f"\r{text}\x1b[K" if is_terminal else f"{text}\n")
            sys.stderr.flush()

    thread = threading.Thread(target=show, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if is_terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def line(label, shards, done, finished, unit, units, seconds):
    """A line of progress.

    Args:
        label, shards, done, unit: as in `progress`.
        finished: int, shards that this run made.
        units: int, how many units they hold.
        seconds: float, how long this took.

    Returns:
        str.
    """
    text = f"{label}: {done + finished} of {shards} shards"
    if finished:
        left = (shards - done - finished) * seconds / finished
        text += f", {units:,} {unit}, {units / seconds:,.0f} a second, {duration(left)} left"
    return text
