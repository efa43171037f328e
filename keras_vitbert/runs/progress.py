"""Reports the progress of a run on stderr, in an occasional line.

    vit: step 120 of 500, image_loss 0.412, image_accuracy 0.871, 812 images/s, 28 s left

Steps are those of the whole run. Lines become rarer: after a fifth of the time so far, at least a
second and at most 30 seconds or, later in a long run, a hundredth of its time so far.
"""

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from keras_vitbert.runs.callbacks import Throughput, TrainerCallback
from pipelines.status import SILENCE, doing, duration, say, times

_KINDS = ("steps", "tracing", "validation", "drawing", "probing", "saving", "teachers")  # of time


class RunProgress(TrainerCallback):
    """Reports the progress of a run over all its calls of `fit`; its time begins when it is made.

    A step takes `flops` operations, of which the devices can do `peak` a second, if they are known.
    `later` are the seconds of what follows the run; `time left` reports it too. `at_most` are the
    steps of a run that may end earlier, and goes on after these `steps`.
    """

    def __init__(
        self,
        label: str,
        steps: int,
        throughput: Throughput,
        speaks: bool = True,
        flops: float | None = None,
        peak: float | None = None,
        later: float = 0.0,
        at_most: int = 0,
    ):
        super().__init__()
        self.label, self.steps, self.throughput = label, at_most or steps, throughput
        self.bound = "at most " if at_most else ""
        self.speaks, self.flops, self.peak, self.later = speaks, flops, peak, later
        self._traced, self._began = times().get("tracing", 0.0), time.monotonic()
        self._first = self._last_line = None
        self._validation = contextlib.ExitStack()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        step, now = self.model.step, time.monotonic()
        if self._first is None:
            self._first = step - self.model.steps_per_execution
        so_far = now - self._began
        wait = max(1.0, min(so_far / 5, SILENCE), so_far / 100)
        if self._last_line is None or step == self.steps or now - self._last_line >= wait:
            told = self._place(), _values(logs or {}), *self._rates(), self._left(step)
            self._say(", ".join(filter(None, told)))

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._reach = self._validation.enter_context(doing("validating", "validation"))

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._reach(f"batch {batch + 1:,}")

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        self._validation.close()
        self._say(f"{self._place()}: validation {_values(logs or {})}")

    def _say(self, line: str) -> None:
        self._last_line = time.monotonic()
        if self.speaks:
            say(line)

    def _place(self) -> str:
        step = f"step {self.model.step:,} of {self.bound}{self.steps:,}"
        return f"{self.label}: {step}" if self.label else step

    def _rates(self) -> Iterator[str]:
        """Yields rates, and the fraction of the devices' peak operations that the model uses."""
        used = self.throughput
        for name, rate in used.rates().items():
            if rate:
                yield f"{rate:,.0f} {name.removesuffix('_per_second')}/s"
        if self.flops and self.peak and used.steps:
            yield f"{self.flops * used.steps / used.seconds / self.peak:.1%} of peak FLOP/s"

    def _left(self, step: int) -> str:
        """The time left at the pace so far, without the time for tracing."""
        done = step - (self._first or 0) - self.model.steps_per_execution  # the first one traces
        if done <= 0 or step == self.steps:
            return ""
        tracing = times().get("tracing", 0.0) - self._traced
        left = (time.monotonic() - self._began - tracing) / done * (self.steps - step)
        more = f", {duration(left + self.later)} for all trials" if self.later else ""
        return f"{self.bound}{duration(left)} left{more}"


def time_shares(before: dict[str, float], began: float, teachers: float = 0.0) -> dict[str, float]:
    """Where a run's time went, for its summary: seconds of `_KINDS` and `other`.

    `before` is `pipelines.status.times`, `began` is `time.monotonic` at the start of the run; the
    training of its `teachers`, in seconds, is in neither of the two.
    """
    now = {**times(), "teachers": teachers}
    seconds = {kind: now.get(kind, 0.0) - before.get(kind, 0.0) for kind in _KINDS}
    other = time.monotonic() - began + teachers - sum(seconds.values())
    return {name: round(max(s, 0.0), 2) for name, s in {**seconds, "other": other}.items()}


def summed(times_of_runs: Iterable[dict[str, float]]) -> dict[str, float]:
    """The times of several runs, of `time_shares` or empty, in one dict."""
    times_of_runs = list(times_of_runs)
    kinds = dict.fromkeys(kind for seconds in times_of_runs for kind in seconds)
    return {kind: round(sum(s.get(kind, 0.0) for s in times_of_runs), 2) for kind in kinds}


def shares_line(seconds: dict[str, float]) -> str:
    """The shares of a run's time, of `time_shares`, in one line, the largest first."""
    whole = sum(seconds.values()) or 1.0
    shares = sorted(seconds.items(), key=lambda share: -share[1])
    shown = [f"{s / whole:.0%} {kind}" for kind, s in shares if s / whole >= 0.005]
    return f"time: {', '.join(shown)}"


def _values(logs: Mapping[str, Any]) -> str:
    """Losses and accuracies; the sum of losses only if there is no other loss."""
    names = [name for name in logs if name.endswith(("loss", "accuracy"))]
    if sum(name.endswith("loss") for name in names) > 1:
        names.remove("loss")
    return ", ".join(f"{name} {float(logs[name]):.3f}" for name in names)
