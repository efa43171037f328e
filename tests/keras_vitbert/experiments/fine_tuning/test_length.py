"""How long a trial trains: while held-out examples get better, then the rate falls."""

import json
import signal

import numpy as np
import pytest

from keras_vitbert.configs import fine_tuning
from keras_vitbert.experiments.fine_tuning.length import Length
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.trained.loading import load
from pipelines.command_line import EXIT_DONE, EXIT_STOPPED
from tests.keras_vitbert.killed import signal_at
from tests.keras_vitbert.tiny_runs import summary_of
from tests.keras_vitbert.tiny_tasks import finetune, rows_of


def length(folder, **values):
    values = {"steps": 100, "most_steps": 1_000, **values}
    config = fine_tuning.get_config("cifar10", "images").with_values(values)
    return Length.read(config, RunFolder(str(folder)))


def ends(folder, losses, accuracies=None, every=10, **values):
    """At which of the measured steps the constant rate ends; None if it goes on."""
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
        (FALLING, None, 700, True),  # the rate falls at 70 % of most_steps
        (RISING, None, 70, False),  # at 70 % of steps at the earliest
        ([*FALLING[:20], *RISING[:50]], None, 320, False),  # over a third after 210
        ([3.0, *RISING[:69]], list(np.linspace(0, 1, 70)), 700, True),  # one of both is enough
    ],
)
def test_the_rate_is_constant_while_a_measure_gets_better(
    tmp_path, losses, accuracies, step, too_early
):
    assert ends(tmp_path, losses, accuracies) == step
    found = length(tmp_path)
    assert found.reached == step and found.ended_too_early == too_early
    assert found.steps == step + step * 3 // 7  # the rate falls in the last 30 %


def test_measures_after_a_step_that_is_repeated_do_not_count(tmp_path):
    first = length(tmp_path)
    for step in (10, 20, 30):
        first.add(step, {"loss": step, "accuracy": 0.0})
    again = length(tmp_path)
    again.add(20, {"loss": 5.0, "accuracy": 0.0})
    assert [row["step"] for row in again.measured] == [10, 20]


@pytest.mark.parametrize("executed", [1, 5])
@pytest.mark.parametrize("most", [100, 1_005, 2_985])
def test_never_more_than_the_most_steps(tmp_path, most, executed):
    values = {"most_steps": most, "steps_per_execution": executed, "steps_per_epoch": executed}
    found = length(tmp_path, **values, checkpoint_interval=executed)
    found.reached = found.longest
    assert most - 3 * executed < found.steps <= most and not found.steps % executed


def test_rates(tmp_path):
    values = {"optimizer.learning_rate": 0.5, "optimizer.warmup": 0.1, "steps_per_execution": 5}
    values |= {"steps_per_epoch": 5, "checkpoint_interval": 5}
    new = length(tmp_path, **values)
    assert new.limit % 5 == 0
    constant = new.constant_rate()
    rates = [float(constant(step)) for step in (0, 5, 10, 400, new.limit)]
    np.testing.assert_allclose(rates, [0, 0.25, 0.5, 0.5, 0.5])
    for step in range(5, 400, 5):
        new.add(step, {"loss": 1.0, "accuracy": 0.5})
        if new.reached:
            break
    falling = new.falling_rate()
    assert new.steps % 5 == 0 and new.reached == 70
    middle = (new.reached + new.steps) / 2
    found = [float(falling(step)) for step in (new.reached, middle, new.steps)]
    np.testing.assert_allclose(found, [0.5, 0.25, 0], atol=1e-7)


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
    assert steps == list(range(2, kept["reached"] + 1, 2))
    assert 14 <= kept["reached"] <= 21
    assert summary["steps"] == int(rows[-1]["step"]) == int(kept["reached"] / 0.7)
    assert summary["training_examples"] == 30
    for measured in kept["measured"]:
        [row] = [row for row in rows if int(row["step"]) == measured["step"]]
        assert float(row["held_out_loss"]) == measured["loss"]
    rates = {int(row["step"]): float(row["learning_rate"]) for row in rows}
    assert rates[kept["reached"]] == pytest.approx(0.01) and min(rates.values()) < 0.002


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
