"""Prints how far a sharded job has come: shards done, rate, and time left, on stderr."""

import contextlib
import sys
import threading
import time

_SECONDS = 10  # between two lines
_TERMINAL_SECONDS = 2  # where the line is rewritten in place


@contextlib.contextmanager
def progress(label, shards, done, unit, poll):
    """Prints a line now and then while the block runs.

    Args:
        label: str, begins each line.
        shards: int, all shards of the job.
        done: int, how many of them an earlier run has made.
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
            print(
                f"\r{text}\x1b[K" if is_terminal else text,
                end="" if is_terminal else "\n",
                file=sys.stderr,
                flush=True,
            )

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
    """The line: `finished` shards and `units` were made in `seconds`, `done` before that."""
    text = f"{label}: {done + finished} of {shards} shards"
    if finished:
        left = (shards - done - finished) * seconds / finished
        text += f", {units:,} {unit}, {units / seconds:,.0f} a second, {duration(left)} left"
    return text


def duration(seconds):
    """Seconds as a person reads them: `45 s`, `12 min`, `3 h 20 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
