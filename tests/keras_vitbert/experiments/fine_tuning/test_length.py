"""How long a trial trains: while held-out examples get better, then the rate falls."""

import json
import signal

import numpy as np
import pytest

from keras_vitbert.configs import fine_tuning
from keras_vitbert.experiments.fine_tuning import trainer
from keras_vitbert.experiments.fine_tuning.length import Length
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.trained.loading import load
from pipelines.command_line import EXIT_DONE, EXIT_STOPPED
from tests.keras_vitbert.killed import signal_at
from tests.keras_vitbert.tiny_runs import summary_of
from tests.keras_vitbert.tiny_tasks import finetune, rows_of


def length(folder, **values):
    values = {"steps": 100, "most_steps": 1_000, "steps_per_epoch": 1, **values}
    config = fine_tuning.get_config("cifar10", "images").with_values(values)
    return Length.read(config, RunFolder(str(folder)))


def ends(folder, losses, accuracies=None, every=10, **values):
    """From which of the measured steps the rate falls; None if it never does."""
    accuracies = accuracies or [0.5] * len(losses)
    for number, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True), 1):
        # Read anew each time, as by a process that goes on.
        if length(folder, **values).add(number * every, {"loss": loss, "accuracy": accuracy}):
            return number * every
    return None


FALLING = list(np.linspace(3, 1, 70))
RISING = list(np.linspace(1, 3, 70))


@pytest.mark.parametrize(
    ("losses", "accuracies", "step", "too_early"),
    [
        (FALLING, None, 500, True),  # all ends at most_steps
        (RISING, None, 50, False),  # as if nobody had looked
        ([*FALLING[:20], *RISING[:50]], None, 320, False),  # over a third after 210
        ([3.0, *RISING[:69]], list(np.linspace(0, 1, 70)), 500, True),  # one of both is enough
    ],
)
def test_the_rate_stands_still_while_a_measure_gets_better(
    tmp_path, losses, accuracies, step, too_early
):
    assert ends(tmp_path, losses, accuracies) == step
    found = length(tmp_path)
    assert found.reached == step and found.ended_too_early == too_early
    assert found.steps == 2 * step


@pytest.mark.parametrize("executed", [1, 5])
@pytest.mark.parametrize("most", [100, 1_005, 2_985])
def test_never_more_than_the_most_steps(tmp_path, most, executed):
    values = {"most_steps": most, "steps_per_execution": executed, "steps_per_epoch": executed}
    found = length(tmp_path, **values, checkpoint_interval=executed)
    found.reached = found.longest
    assert most - 3 * executed < found.steps <= most and not found.steps % executed


@pytest.mark.parametrize(
    ("steps", "schedule"), [(100, "polynomial"), (94, "cosine"), (938, "cosine")]
)
@pytest.mark.parametrize("late", [0, 3])
def test_rates_are_those_of_the_steps_with_a_pause(tmp_path, steps, schedule, late):
    """Up to the pause as of a training of `steps`, and then as its rest, stretched."""
    optimizer = {"optimizer.schedule": schedule, "optimizer.warmup": 0.1}
    optimizer["optimizer.learning_rate"] = 0.5
    found = length(tmp_path, steps=steps, most_steps=8 * steps, **optimizer)
    usual = trainer.schedule(found.config.optimizer, steps)
    before = found.rate()
    found.reached = reached = found.half + late * found.interval
    after, factor = found.rate(), reached / found.half
    assert factor == 1 or 1.5 < factor < 1.7
    for step in range(steps):
        place = min(step, found.half)
        assert float(before(step)) == float(usual(place)) == float(after(place))
        if step > found.half:
            part = (step - found.half) / (steps - found.half)
            later = reached + part * (found.steps - reached)
            assert float(after(later)) == pytest.approx(float(usual(step)), abs=1e-6)
    assert float(after(reached)) == float(usual(found.half))
    assert float(after(found.steps)) == pytest.approx(0, abs=1e-6)
    if not late:
        assert [float(after(n)) for n in range(steps)] == [float(usual(n)) for n in range(steps)]


@pytest.fixture(scope="module")
def flags(text_flags):
    """At most 30 steps, measured after each second one."""
    return [*text_flags, "--config.steps=20", "--config.most_steps=30", "--config.batch=8"]


@pytest.fixture(scope="module")
def unbroken(flags, tmp_path_factory):
    folder = tmp_path_factory.mktemp("length")
    assert finetune(*flags, f"--output_dir={folder}") == EXIT_DONE
    return folder


def state(folder):
    model = summary_of(folder)["model"]
    kept = json.loads((folder / model / "length.json").read_text())
    weights = [np.asarray(weight.value) for weight in load(str(folder)).network.weights]
    return kept, weights, rows_of(folder / model / "metrics.csv")


def test_a_run_gives_back_what_it_held_out(unbroken):
    kept, _, rows = state(unbroken)
    summary = summary_of(unbroken)
    steps = [row["step"] for row in kept["measured"]]
    assert steps == sorted({*range(2, kept["reached"] + 1, 2), kept["reached"]})
    assert 10 <= kept["reached"] <= 15
    assert summary["steps"] == int(rows[-1]["step"]) == 2 * kept["reached"]
    assert summary["training_examples"] == 30
    for measured in kept["measured"]:
        [row] = [row for row in rows if int(row["step"]) == measured["step"]]
        assert float(row["held_out_loss"]) == measured["loss"]
    rates = {int(row["step"]): float(row["learning_rate"]) for row in rows}
    assert rates[kept["reached"]] == rates[10] == pytest.approx(0.01 * 10 / 18)
    assert rates[summary["steps"]] < 0.001


@pytest.mark.slow
@pytest.mark.parametrize("stops", [(5,), (13, 16), ("reached",), ("falling",)])
def test_a_stopped_run_ends_the_same(unbroken, flags, tmp_path, stops):
    """Stopped before and after the rate falls, and just when it does."""
    wanted, weights, rows = state(unbroken)
    places = {"reached": wanted["reached"], "falling": wanted["reached"] + 3}
    for stop in stops:
        signal_at(places.get(stop, stop), signal.SIGTERM)
        assert finetune(*flags, f"--output_dir={tmp_path}") == EXIT_STOPPED
    assert finetune(*flags, f"--output_dir={tmp_path}") == EXIT_DONE
    found, ours, our_rows = state(tmp_path)
    assert found == wanted
    for one, other in zip(ours, weights, strict=True):
        np.testing.assert_array_equal(one, other)
    names = ("step", "loss", "learning_rate")
    assert [[r[n] for n in names] for r in our_rows] == [[r[n] for n in names] for r in rows]
