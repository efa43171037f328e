"""Reports what a command is doing: a line on stderr when something that may take long begins, and
how long everything took.

    loading TensorFlow ...
    vit: 435,722 parameters, 500 steps of 128 images, in runs/sample-vitbert/teachers/vit

A line about a beginning ends with ` ...`. While nothing else is printed, it is repeated every 30
seconds with the time elapsed. Something that happens often is reported again only if it took
seconds.

This module imports nothing from the project and nothing heavy.
"""

import contextlib
import os
import sys
import threading
import time

SILENCE = 30.0  # seconds at most while something is being done
_SHORT = 2.0  # seconds: what took less is not reported again
OTHER = "other"


def say(text):
    """Prints a line for the user on stderr at once; nothing if stderr cannot be written."""
    _spoken.set()
    if sys.stderr is None:  # it was closed before the program began
        return
    try:
        sys.stderr.write(f"{text}\n")  # in one call: another thread may print too
        sys.stderr.flush()
    except OSError:
        discard(sys.stderr)


def discard(stream):
    """Discards what a stream still holds: Python would fail to write it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def duration(seconds):
    """A duration in words.

    Args:
        seconds: float.

    Returns:
        str, such as `45 s`, `12 min` or `3 h 20 min`.
    """
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


class Activity:
    """What is being done.

    Attributes:
        text: str, such as `validating`.
        part: str, how far it has got, such as `batch 3 of 20`, or a function that says so.
    """

    def __init__(self, text):
        self.text, self.part = text, ""
        self.began = time.monotonic()

    def __str__(self):
        part = self.part() if callable(self.part) else self.part
        return ", ".join(filter(None, (self.text, part)))


class _Times:
    """Seconds by kind; each second counts once, for the innermost block of `timed`."""

    def __init__(self):
        self.seconds, self.kinds, self._since = {}, [], time.monotonic()

    def charge(self):
        now = time.monotonic()
        kind = self.kinds[-1] if self.kinds else OTHER
        self.seconds[kind] = self.seconds.get(kind, 0.0) + now - self._since
        self._since = now


_times = _Times()
_activities = []  # the innermost is the last
_took = {}  # seconds by text
_shown = []  # displays that replace the lines, see `display`
_spoken = threading.Event()
_heart = None


@contextlib.contextmanager
def timed(kind):
    """Counts the time of a block, which may contain other such blocks.

    Args:
        kind: str, such as `steps`.
    """
    _times.charge()
    depth = len(_times.kinds)
    _times.kinds.append(kind)
    try:
        yield
    finally:
        _times.charge()
        del _times.kinds[depth:]


def times():
    """The seconds of this process so far, by kind: dict of str to float."""
    _times.charge()
    return dict(_times.seconds)


@contextlib.contextmanager
def doing(text, kind=None):
    """Reports that something begins, and counts its time.

    Args:
        text: str, such as `loading TensorFlow`.
        kind: str, what its time counts as; None for the kind already being counted.

    Yields:
        `Activity`, whose `part` may be set.
    """
    _beat()
    activity = Activity(text)
    depth = len(_activities)
    _activities.append(activity)
    if _shown:
        _shown[-1](str(activity))
    elif _took.get(text, _SHORT) >= _SHORT:
        say(f"{text} ...")
    try:
        with timed(kind) if kind else contextlib.nullcontext():
            yield activity
    finally:
        _took[text] = time.monotonic() - activity.began
        del _activities[depth:]
        if _shown:
            _shown[-1](str(_activities[-1]) if _activities else "")


def counted(items, count, name="batch"):
    """Yields items, and reports the count so far to `doing`.

    Args:
        items: iterable.
        count: int, how many items there are.
        name: str, what to call an item.
    """
    for number, item in enumerate(items, 1):
        if _activities:
            _activities[-1].part = f"{name} {number:,} of {count:,}"
        yield item


@contextlib.contextmanager
def display(show):
    """Passes what is being done to a display instead of printing it.

    Args:
        show: callable that takes a text, which is empty when nothing is being done.
    """
    depth = len(_shown)
    _shown.append(show)
    try:
        yield
    finally:
        del _shown[depth:]


def _beat():
    """Starts, once per process, the thread that repeats what is being done."""
    global _heart
    if _heart is None or _heart[0] != os.getpid():
        thread = threading.Thread(target=_repeat, name="status", daemon=True)
        _heart = os.getpid(), thread
        thread.start()


def _repeat():
    while True:
        _spoken.clear()
        if _spoken.wait(SILENCE):
            continue
        activity = _activities[-1] if _activities else None
        if activity is not None and not _shown:
            with contextlib.suppress(ValueError):  # a test has closed its stderr
                say(f"{activity}, {duration(time.monotonic() - activity.began)} ...")
