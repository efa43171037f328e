"""Reports the progress of a run on stderr: a bar on a terminal, elsewhere an occasional line.

    vit: step 120 of 500, image_loss 0.412, image_accuracy 0.871, 812 images/s, 28 s left

Steps are those of the whole run. A line appears after the first step, and at every twentieth of the
run unless the last line is less than a second old. One also appears whenever 30 seconds have passed
or, later in a long run, a hundredth of its time so far.
"""

import contextlib
import sys
import time

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from pipelines.status import SILENCE, display, doing, duration, say, times

_PARTS = 20  # of a run, with a line each
_LEAST = 1.0  # seconds between two of these lines
_SLOWER = 100  # a line may wait for 1 / _SLOWER of the time so far
_KINDS = ("steps", "tracing", "validation", "drawing", "probing", "saving", "teachers")  # of time


class RunProgress(keras.callbacks.Callback, contextlib.AbstractContextManager):
    """Reports the progress of a run over all its calls of `fit`; use it as a context around them.

    Args:
        label: str, the start of each line.
        steps: int, of the whole run.
        throughput: `keras_vitbert.runs.callbacks.Throughput`.
        validation_batches: int; 0 without validation.
        speaks: bool, whether this process reports anything.
        flops: float, operations of a step; None if not known.
        peak: float, operations per second that the devices can do; None if not known.
        later: float, seconds of what follows the run; `time left` reports it too.
    """

    def __init__(
        self,
        label,
        steps,
        throughput,
        validation_batches=0,
        speaks=True,
        flops=None,
        peak=None,
        later=0.0,
    ):
        super().__init__()
        self.label, self.steps, self.throughput = label, steps, throughput
        self.validation_batches, self.speaks = validation_batches, speaks
        self.flops, self.peak, self.later = flops, peak, later
        self._first = self._told_step = None
        self._began = self._told = time.monotonic()
        self._bar = self._task = None
        self._at = ()  # on the terminal: values of the last step, the most important first
        self._stack = contextlib.ExitStack()
        self._validation = contextlib.ExitStack()

    def __enter__(self):
        self._before = times()
        self._began = self._told = time.monotonic()
        if self.speaks and sys.stderr is not None and sys.stderr.isatty():
            self._bar = Progress(
                SpinnerColumn("line"),
                BarColumn(16),
                TextColumn("{task.description}", markup=False),
                console=Console(file=sys.stderr, soft_wrap=True),
                redirect_stdout=False,  # results may go elsewhere
                refresh_per_second=4,
            )
            self._stack.enter_context(self._bar)
            self._task = self._bar.add_task(self.label, total=self.steps)
            self._stack.enter_context(display(self._show))
        return self

    def __exit__(self, *exception):
        self._validation.close()
        self._stack.close()
        self._bar = None

    def on_train_batch_end(self, batch, logs=None):
        step = self.model.step
        if self._first is None:
            self._first = step - self.model.steps_per_execution
        if not self.speaks:
            return
        if self._bar is not None:
            self._at = f"step {step:,} of {self.steps:,}", *self._about(step, logs or {})[::-1]
            self._bar.update(self._task, completed=step)
            self._show("")
        elif self._is_due(step):
            self._tell(step, logs or {})

    def on_test_begin(self, logs=None):
        self._reach = self._validation.enter_context(doing("validating", "validation"))

    def on_test_batch_end(self, batch, logs=None):
        self._reach(f"batch {batch + 1:,} of {self.validation_batches:,}")

    def on_test_end(self, logs=None):
        self._validation.close()
        if self.speaks:
            say(f"{self._place(self.model.step)}: validation {_values(logs or {})}")
            self._told = time.monotonic()

    def _is_due(self, step):
        """Whether a line is due after a step."""
        now = time.monotonic()
        if self._told_step is None or step == self.steps:
            return True
        waited = now - self._told
        parts = step * _PARTS // self.steps > self._told_step * _PARTS // self.steps
        return parts and waited >= _LEAST or waited >= max(SILENCE, (now - self._began) / _SLOWER)

    def _tell(self, step, logs):
        self._told_step, self._told = step, time.monotonic()
        say(", ".join([self._place(step), *self._about(step, logs)]))

    def _show(self, text):
        """Shows on the terminal any activity besides steps, and the values of the last step."""
        parts = ", ".join(filter(None, (text, *self._at)))
        self._bar.update(self._task, description=": ".join(filter(None, (self.label, parts))))

    def _place(self, step):
        return ": ".join(filter(None, (self.label, f"step {step:,} of {self.steps:,}")))

    def _about(self, step, logs):
        """Losses, rate, utilisation and time left: list of str."""
        rates = [
            f"{rate:,.0f} {name.removesuffix('_per_second')}/s"
            for name, rate in self.throughput.rates().items()
            if rate
        ]
        parts = [_values(logs), *rates, self._utilisation(), self._left(step)]
        return list(filter(None, parts))

    def _utilisation(self):
        """The fraction of the devices' peak operations that the model uses."""
        used = self.throughput
        if not (self.flops and self.peak and used.steps):
            return ""
        return f"{self.flops * used.steps / used.seconds / self.peak:.1%} of peak FLOP/s"

    def _left(self, step):
        """The time left at the pace so far, without the time for tracing."""
        now = times()
        tracing = now.get("tracing", 0.0) - self._before.get("tracing", 0.0)
        done = step - self._first - self.model.steps_per_execution  # the first one traces
        if done <= 0 or step == self.steps:
            return ""
        pace = (time.monotonic() - self._began - tracing) / done
        left = pace * (self.steps - step)
        more = f", {duration(left + self.later)} for all trials" if self.later else ""
        return f"{duration(left)} left{more}"


def time_shares(before, began, teachers=0.0):
    """Where a run's time went, for its summary.

    Args:
        before: dict, `pipelines.status.times` at the start of the run.
        began: float, `time.monotonic` at the start of the run.
        teachers: float, seconds that training its teachers took; in neither of the two.

    Returns:
        dict of `steps`, `tracing`, `validation`, `drawing`, `probing`, `saving`, `teachers` and
        `other` to seconds.
    """
    now = {**times(), "teachers": teachers}
    seconds = {kind: now.get(kind, 0.0) - before.get(kind, 0.0) for kind in _KINDS}
    other = time.monotonic() - began + teachers - sum(seconds.values())
    return {name: round(max(s, 0.0), 2) for name, s in {**seconds, "other": other}.items()}


def summed(times_of_runs):
    """The times of several runs in one dict.

    Args:
        times_of_runs: list of dicts from `time_shares`; some may be empty.
    """
    kinds = dict.fromkeys(kind for seconds in times_of_runs for kind in seconds)
    return {kind: round(sum(s.get(kind, 0.0) for s in times_of_runs), 2) for kind in kinds}


def shares_line(seconds):
    """The shares of a run's time in one line, the largest first.

    Args:
        seconds: dict from `time_shares`.
    """
    whole = sum(seconds.values()) or 1.0
    parts = sorted(seconds.items(), key=lambda part: -part[1])
    shown = [f"{s / whole:.0%} {kind}" for kind, s in parts if s / whole >= 0.005]
    return f"time: {', '.join(shown)}"


def _values(logs):
    """Losses and accuracies; the sum of losses only if there is no other loss."""
    names = [name for name in logs if name.endswith(("loss", "accuracy"))]
    if sum(name.endswith("loss") for name in names) > 1:
        names.remove("loss")
    return ", ".join(f"{name} {float(logs[name]):.3f}" for name in names)
