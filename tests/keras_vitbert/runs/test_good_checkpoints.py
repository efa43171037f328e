"""Which checkpoint is named good, against a reference that knows the past of all weights."""

import pathlib
import random
import types

import keras
import pytest
import tensorflow as tf

from keras_vitbert.runs import checkpoints
from keras_vitbert.runs.callbacks import Checkpoints
from keras_vitbert.runs.machine import Workers
from keras_vitbert.training.anomaly_guard import AnomalyGuard


class OneWeight:
    """As much of a trainer as a checkpoint needs; its weight names the steps behind it."""

    def __init__(self, ema=0.0):
        self.weight = keras.Variable(0.0, name="weight")
        self.optimizer = keras.optimizers.SGD(use_ema=bool(ema), ema_momentum=ema or 0.99)
        self.optimizer.build([self.weight])
        self.anomaly_guard = AnomalyGuard(name="step_check")
        self.step, self.stop_training = 0, False

    @property
    def state_variables(self):
        return {
            "network": [self.weight],
            "metrics": [],
            "step_check": self.anomaly_guard.variables,
        }

    def train(self, steps, are_good, weight):
        self.step += steps
        self.optimizer.iterations.assign(self.step)
        check = self.anomaly_guard
        if are_good:
            check.in_a_row.assign_add(steps)
            self.weight.assign(weight)
        else:
            check.in_a_row.assign(0)
            check.bad_steps.assign_add(steps)


class Reference:
    """Training as a tree: what is saved or restored last is the parent of what is saved next."""

    def __init__(self):
        self.step, self.weight = 0, 0.0
        self.parent = self.last = self.good = None
        self.since: list[bool] = []  # whether each step since the parent was good

    def train(self, steps, are_good, weight):
        self.step += steps
        self.since += [are_good] * steps
        if are_good:
            self.weight = weight

    def save(self, validated):
        saved = self.step, self.weight
        if validated:
            self.good = saved
        elif self.parent is not None and all(self.since[-checkpoints.STEPS_TO_SHOW :]):
            self.good = self.parent
        self.parent = self.last = saved
        self.since = []

    def go_back(self):
        self.parent, self.since = self.good, []
        self.weight = self.good[1]

    def resume(self):
        self.parent, self.since = self.last, []
        self.step, self.weight = self.last


def follow(folder, events, keep):
    """Plays events in both, and compares them after each.

    Each event is (`steps`, number), (`bad`, number), `save`, `validate` or `kill`: a step that was
    not applied is skipped, and `back` goes back after it.
    """
    ours, theirs = OneWeight(), Reference()
    for number, event in enumerate(events, start=1):
        match event:
            case "steps" | "bad", steps:
                for each in (ours, theirs):
                    each.train(steps, event[0] == "steps", float(number))
            case "save" | "validate":
                checkpoints.write(folder, checkpoints.snapshot(ours, event == "validate"), keep)
                theirs.save(event == "validate")
            case "back":
                ours.train(1, False, 0.0)
                theirs.train(1, False, 0.0)
                went = checkpoints.go_back(folder, ours)
                assert bool(went) == (theirs.good is not None), str(events[:number])
                if went:
                    theirs.go_back()
            case "kill" if theirs.last:
                ours = OneWeight()
                assert checkpoints.restore_newest(folder, ours) == theirs.last[0]
                theirs.resume()
        assert (ours.step, float(ours.weight.numpy())) == (theirs.step, theirs.weight)
        assert _good(folder) == theirs.good, str(events[:number])


def _good(folder):
    """What the pointer names and the checkpoint holds: (step, weight), or None."""
    pointer = pathlib.Path(folder, "GOOD")
    if not pointer.exists():
        return None
    name = pointer.read_text().strip()
    weight = tf.train.load_variable(f"{folder}/{name}/state", checkpoints._key("network", "weight"))
    return int(name.removeprefix("step-")), float(weight)


@pytest.mark.parametrize("seed", range(6))
def test_any_sequence_of_events(tmp_path, seed):
    draw = random.Random(seed)
    for number in range(3):
        events = []
        for _ in range(20):
            kinds = ["steps", "steps", "save", "save", "validate", "bad", "back", "kill"]
            kind = draw.choice(kinds)
            if kind in ("steps", "bad"):
                kind = kind, draw.choice([1, 5, 19, 20, 21, 30])
            events.append(kind)
            if kind in ("save", "validate", "kill"):  # a step is saved once
                events.append(("steps", 1))
        folder = tmp_path / str(number)
        folder.mkdir()
        follow(str(folder), events, keep=draw.choice([1, 2, 3]))


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_validation_shows_the_weights_that_it_was_made_with(tmp_path, ema):
    """With averages, it has not seen the weights; only the steps after the checkpoint do."""
    settings = {"steps": 100, "steps_per_epoch": 20, "checkpoint_interval": 20}
    settings["checkpoints_to_keep"] = 1
    run = types.SimpleNamespace(
        config=types.SimpleNamespace(**settings),
        folder=types.SimpleNamespace(checkpoints=str(tmp_path)),
        workers=Workers(tf.distribute.get_strategy()),
    )
    trainer = OneWeight(ema)
    good = []
    with Checkpoints(run) as keeper:
        keeper.set_model(trainer)
        # Before the third, a step goes wrong: the averages hide what it would have shown.
        for epoch, steps in enumerate(((20,), (20,), (19, 1), (20,))):
            trainer.train(steps[0], True, float(epoch))
            if len(steps) == 2:
                trainer.train(1, False, 0.0)
            trainer.anomaly_guard.best.assign(1.0)
            keeper.on_epoch_end(epoch, {"val_loss": 2.0})
            keeper.wait()
            good.append((_good(str(tmp_path)) or [None])[0])
    assert good == ([None, 20, 20, 60] if ema else [20, 40, 60, 80])
