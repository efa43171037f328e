"""Steps that may not count: what is found, and that such a step changes nothing."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.merging import GradientMask, Merge, Unit
from keras_vitbert.training.anomaly_guard import LOSS_FACTOR, STEP_ROW, AnomalyGuard, bad_steps
from keras_vitbert.training.optimizers import SGD, Adafactor, AdamW, Lamb, Lion
from tests.keras_vitbert.training.joint_steps import ADAMW, step, tensors

NAN, INF = math.nan, math.inf


def judged(losses, norm=1.0, update=0.1, carried=0.0):
    """Whether each step is good, and the check after them."""
    check = AnomalyGuard()
    found = [
        bool(check.judge(*(tf.constant(x, tf.float32) for x in (loss, norm, update)), carried)[0])
        for loss in losses
    ]
    return found, check


@pytest.mark.parametrize("wrong", [NAN, INF, -INF])
def test_what_is_not_finite_is_bad(wrong):
    assert judged([2.0, wrong, 2.0])[0] == [True, False, True]
    assert judged([2.0], norm=wrong)[0] == [False]
    assert judged([2.0], update=wrong)[0] == [wrong == -INF]


def test_losses_are_compared_with_the_best_running_mean():
    """Computed once more in float64; losses that go up slowly do not move the limit."""
    losses = [9.0, 3.0, 1e6, 4.0, 2.0, 40.0, 1.0, *np.linspace(1, 100, 200)]
    found, check = judged(losses)
    mean, best, count, expected = 0.0, INF, 0, []
    for loss in losses:
        good = loss <= LOSS_FACTOR * max(best, 1)
        expected.append(good)
        if good:
            count += 1
            mean += (loss - mean) / min(count, 100)
            best = min(best, mean)
    assert found == expected and not all(found[7:])
    assert check.best.numpy() == pytest.approx(best, rel=1e-6)
    assert check.loss.numpy() == pytest.approx(mean, rel=1e-5)
    assert check.bad_steps.numpy() == expected.count(False)
    assert check.in_a_row.numpy() == 0
    assert check.is_usual(10 * best) and not check.is_usual(11 * best)
    assert not check.is_usual(NAN) and not AnomalyGuard().is_usual(INF)


# --- the bound on an update ----------------------------------------------------------------------


def adam(beta_1, beta_2):
    return AdamW(0.01, beta_1=beta_1, beta_2=beta_2, epsilon=1e-30)


AGE = np.arange(60)[::-1, None]
SPIKE = np.full((60, 4), 1e-6)
SPIKE[-1] = [1, 0, 0, 0]
# An optimiser, the first value of its variable, how many gradients of 0 come before, and gradients
# of which the last moves the variable as far as the bound says.
REACHING = {
    "adam": (lambda: adam(0.9, 0.999), 0.0, 100_000, (0.9 / 0.999) ** AGE),
    "adam without momentum": (lambda: adam(0.0, 0.99), 0.0, 100_000, 0.0**AGE),
    "sgd": (lambda: SGD(0.1, momentum=0.9), 0.0, 0, 0 * AGE + 1),
    "lamb": (lambda: Lamb(0.01), 0.5, 0, AGE[:1] / 59),
    "lion": (lambda: Lion(0.01), 0.5, 0, AGE[:1] / 59),
    "adafactor": (lambda: Adafactor(0.01), 0.5, 0, SPIKE),
}


@pytest.mark.parametrize("name", REACHING)
def test_updates_stay_within_their_bounds_and_can_reach_them(name):
    make, start, steps_before, reaching = REACHING[name]
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(20, 50)) * 10.0 ** rng.integers(-6, 0, (20, 50))
    for gradients in (np.float32(wide), np.float32(reaching)):
        optimizer, check = make(), AnomalyGuard()
        variable = keras.Variable(np.full(gradients.shape[1:], start, np.float32), name="bias")
        optimizer.build([variable])
        optimizer.iterations.assign(steps_before)
        for gradient in gradients:
            before, norm = variable.numpy(), tf.constant(np.linalg.norm(gradient))
            _, bound = check.judge(tf.constant(1.0), norm, *optimizer.largest_update(norm))
            optimizer.apply([tf.constant(gradient)], [variable])
            move = abs(variable.numpy() - before.astype(np.float64)).max()
            assert move <= bound * (1 + 1e-5)
    assert move == pytest.approx(float(bound), rel=0.01)


# --- a bad step changes nothing ------------------------------------------------------------------


def state(trainer):
    """Everything that training changes, but for the counts of steps."""
    parts = {**trainer.state_variables, "optimizer": trainer.optimizer.variables}
    counts = ("iteration", "bad_steps", "in_a_row")
    return {
        f"{part} {number} {variable.name}": keras.ops.convert_to_numpy(variable.value)
        for part, variables in parts.items()
        for number, variable in enumerate(variables)
        if not variable.path.endswith(counts)
    }


def test_a_bad_joint_step_changes_nothing(make_trainer, make_batch):
    """Masks, random numbers of masks, probes, moments, weights, decay and metrics."""
    trainer = make_trainer(Merge(Unit(), GradientMask("random", seed=3)), ADAMW, 1.0)
    trainer.clear_counts.assign([50])
    for number in range(2):
        step(trainer, make_batch(number), probing=True)
    assert sum(trainer.merge.mask.cleared) == 100
    before, probe = state(trainer), trainer.probe_values()
    batch = make_batch(2)
    batch["images"][0, 0, 0, 0] = NAN
    logs = trainer.train_step(tensors(batch), probing=True)
    [bad] = bad_steps(np.asarray(logs[STEP_ROW])[None], 7)
    found = state(trainer)
    assert list(found) == list(before) and trainer.probe_values() == probe
    for name, value in before.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert trainer.optimizer.iterations.numpy() == 3
    assert trainer.anomaly_guard.bad_steps.numpy() == 1
    assert bad.step == 7 and "nan" in bad.reason
    names = [variable.path for variable in trainer.network.trainable_variables]
    reached = {names[i].split("/")[0] for i in bad.variables}
    assert "image_embedding" in reached and not reached & {"text_embedding", "mlm_head"}
    step(trainer, make_batch(3), probing=True)
    assert sum(trainer.merge.mask.cleared) == 150
    after = state(trainer)
    assert all(np.isfinite(value).all() for value in after.values())
    assert any(np.any(after[name] != value) for name, value in before.items() if "kernel" in name)
