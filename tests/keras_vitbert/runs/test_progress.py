"""Lines of progress, on a clock of their own."""

import collections
import itertools
import re
import time
import types

import pytest

from keras_vitbert.runs.progress import RunProgress, shares_line, summed, time_shares
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


@pytest.fixture
def told(clock, capsys):
    """`told(steps, seconds, start=0, **options)`: the lines of a run with so long steps.

    The first step also traces, for 40 seconds.
    """

    def told(steps, seconds, start=0, **options):
        throughput = Throughput()
        model = types.SimpleNamespace(step=start, steps_per_execution=1)
        callback = RunProgress("vit", steps, throughput, **options)
        callback.set_model(model)
        while model.step < steps:
            if model.step == start:
                with status.timed("tracing"):
                    clock[0] += 40
            else:
                throughput.steps += 1
                throughput.seconds += seconds
                clock[0] += seconds
            model.step += 1
            callback.on_train_batch_end(0, {"loss": 0.5, "gradient_norm": 9.0})
        return capsys.readouterr().err.splitlines()

    return told


def steps_of(lines):
    return [int(re.search(r"step ([\d,]+) of", line)[1].replace(",", "")) for line in lines]


@pytest.mark.parametrize(
    ("steps", "seconds", "least", "most"),
    [(510, 0.01, 1, 6), (1000, 2, 20, 90), (30_000, 10, 100, 700)],
)
def test_lines_are_few_without_a_long_silence(told, steps, seconds, least, most, start=0):
    found = steps_of(told(steps, seconds, start))
    assert found[0] == start + 1 and found[-1] == steps and least < len(found) <= most
    for one, next_one in itertools.pairwise(found):
        so_far = 40 + (next_one - start) * seconds
        assert (next_one - one) * seconds <= max(30, so_far / 100) + seconds


def test_a_line_tells_the_time_left_and_the_utilisation(told):
    line = "vit: step 21 of 500, loss 0.500, 100 images/s, 4 min left"
    assert told(500, 0.5)[1] == line  # half a second a step; the time of tracing would add to them
    lines = told(500, 1, start=400)  # it was resumed there
    assert lines[1].startswith("vit: step 411 of 500") and lines[1].endswith(", 89 s left")
    assert re.search(r"left, 1\d min for all trials$", told(100, 1, later=600.0)[1])
    # 50 operations a step of half a second, of 400 a second: a quarter.
    assert "25.0% of peak FLOP/s" in told(10, 0.5, flops=50, peak=400)[-1]
    assert told(100, 1, speaks=False) == []


def test_validation_is_told_and_timed(clock, capsys):
    callback = RunProgress("vit", 10, Throughput())
    callback.set_model(types.SimpleNamespace(step=10, steps_per_execution=1))
    callback.on_test_begin()
    clock[0] += 31
    callback.on_test_batch_end(2)
    logs = {"loss": 1.0, "image_loss": 0.25, "mlm_loss": 0.75, "image_accuracy": 0.9}
    callback.on_test_end(logs)
    clock[0] += 1
    *_, part, line = capsys.readouterr().err.splitlines()
    assert part.startswith("validating, batch 3")
    assert line == (
        "vit: step 10 of 10: validation image_loss 0.250, mlm_loss 0.750, image_accuracy 0.900"
    )
    assert status.times() == {"other": 1, "validation": 31}


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
    assert shares_line(seconds) == "time: 60% steps, 20% teachers, 10% drawing, 10% other"
    both = summed([seconds, {}, {"steps": 1.0, "other": 0.5}])
    assert both["steps"] == 7 and both["other"] == 1.5 and summed([{}]) == {}
    assert shares_line({}) == "time: "
