"""Lines of progress, on a clock of their own."""

import collections
import itertools
import re
import time
import types

import pytest

from keras_vitbert.runs.progress import RunProgress, summed, time_shares
from pipelines import status


class Throughput:
    """100 images a second, in steps of 50."""

    seconds = steps = 0

    def rates(self):
        return {"images_per_second": 100.0 if self.steps else 0.0}


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(status, "_seconds", collections.Counter())
    monkeypatch.setattr(status, "_since", 1000.0)
    return now


@pytest.mark.parametrize(
    ("steps", "seconds", "least", "most"),
    [(510, 0.01, 1, 6), (1000, 2, 20, 90), (30_000, 10, 100, 700)],
)
def test_lines_are_few_without_a_long_silence(clock, capsys, steps, seconds, least, most):
    """The first step also traces, for 40 seconds."""
    throughput = Throughput()
    callback = RunProgress("vit", steps, throughput)
    callback.set_model(types.SimpleNamespace(step=0, steps_per_execution=1))
    for step in range(1, steps + 1):
        with status.timed("steps" if step > 1 else "tracing"):
            clock[0] += seconds if step > 1 else 40
        throughput.steps, throughput.seconds = step - 1, seconds * (step - 1)
        callback.model.step = step
        callback.on_train_batch_end(0, {"loss": 0.5})
    lines = capsys.readouterr().err.splitlines()
    found = [int(re.search(r"step ([\d,]+) of", line)[1].replace(",", "")) for line in lines]
    assert found[0] == 1 and found[-1] == steps and least < len(found) <= most
    for one, next_one in itertools.pairwise(found):
        so_far = 40 + next_one * seconds
        assert (next_one - one) * seconds <= max(30, so_far / 100) + seconds


def test_shares_of_time(clock):
    before, began = status.times(), time.monotonic()
    with status.timed("steps"):
        clock[0] += 6
    with status.timed("drawing"):
        clock[0] += 1
    clock[0] += 1
    seconds = time_shares(before, began, teachers=2.0)
    spent = {"steps": 6, "drawing": 1, "teachers": 2, "other": 1}
    assert {name: s for name, s in seconds.items() if s} == spent
    both = summed([seconds, {}, {"steps": 1.0, "other": 0.5}])
    assert both["steps"] == 7 and both["other"] == 1.5
