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
from tests.marks import slow

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


def largest_of(optimizer, gradients, steps_before=0, start=0.0):
    """How far the last of some steps moves a weight, and the bound on that; no step exceeds its."""
    variable = keras.Variable(np.full(gradients.shape[1:], start, np.float32), name="bias")
    optimizer.build([variable])
    optimizer.iterations.assign(steps_before)  # with gradients of 0
    check, bounds, moves = AnomalyGuard(), [], []
    for gradient in gradients.astype(np.float32):
        before = variable.numpy().astype(np.float64)
        norm = tf.constant(np.linalg.norm(gradient))
        good, bound = check.judge(tf.constant(1.0), norm, *optimizer.largest_update(norm))
        assert good
        optimizer.apply([tf.constant(gradient)], [variable])
        bounds.append(float(bound))
        moves.append(float(abs(variable.numpy() - before).max()))
    assert all(move <= bound * (1 + 1e-5) for move, bound in zip(moves, bounds, strict=True))
    return moves[-1], bounds[-1]


@pytest.mark.parametrize("beta_1, beta_2", [(0.9, 0.999), (0.0, 0.99)])
def test_adam_stays_within_its_bound_and_can_reach_it(beta_1, beta_2):
    """Reached by gradients that grow as the proof says, where all before were 0."""

    def adam():
        return AdamW(0.01, beta_1=beta_1, beta_2=beta_2, epsilon=1e-30)

    rng = np.random.default_rng(0)
    largest_of(adam(), rng.normal(size=(60, 50)) * 10.0 ** rng.integers(-6, 6, (60, 50)))
    age = np.arange(60)[::-1]
    move, bound = largest_of(adam(), ((beta_1 / beta_2) ** age)[:, None], 100_000)
    assert move == pytest.approx(bound, rel=0.01)


def test_sgd_stays_within_its_bound_and_can_reach_it():
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(60, 50)) * 10.0 ** rng.integers(-3, 0, (60, 50))
    largest_of(SGD(0.1, momentum=0.9), gradients)
    move, bound = largest_of(SGD(0.1, momentum=0.9), np.ones((60, 1)))
    assert move == pytest.approx(bound, rel=1e-5)


@pytest.mark.parametrize("start", [0.0, 0.5])
@pytest.mark.parametrize(
    "make", [lambda: Lamb(0.01), lambda: Lamb(0.01, beta_1=0.5, beta_2=0.5), lambda: Lion(0.01)]
)
def test_lamb_and_lion_stay_within_their_bounds_and_can_reach_them(make, start):
    """A variable of one entry moves by its own size, or by as much as Adam's first step."""
    rng = np.random.default_rng(0)
    scales = 10.0 ** rng.integers(-6, 6, (60, 50))
    largest_of(make(), rng.normal(size=(60, 50)) * scales, start=start)
    move, bound = largest_of(make(), np.ones((1, 1)), start=start)
    if start or isinstance(make(), Lion):
        assert move == pytest.approx(bound, rel=1e-4)


def test_adafactor_stays_within_its_bound_and_can_reach_it():
    """Reached where one entry is all of an update, whose square is cut to the number of entries."""
    shape, rng = (4,), np.random.default_rng(0)
    gradients = rng.normal(size=(60, *shape)) * 10.0 ** rng.integers(-6, 6, (60, *shape))
    largest_of(Adafactor(0.01), gradients, start=0.5)
    gradients = np.full((60, *shape), 1e-6)
    gradients[-1] = 0
    gradients[-1].flat[0] = 1.0
    move, bound = largest_of(Adafactor(0.01), gradients, start=0.5)
    assert move == pytest.approx(bound, rel=0.01)


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


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def with_nan(batch):
    images = batch["images"].copy()
    images[0, 0, 0, 0] = NAN
    return {**batch, "images": images}


@pytest.mark.parametrize("kind", ["data", slow("rate")])
def test_a_bad_joint_step_changes_nothing(make_trainer, make_batch, kind):
    """Masks, random numbers of masks, probes, moments, weights, decay and metrics."""
    trainer = make_trainer(
        Merge(Unit(), GradientMask("random", seed=3)), {**ADAMW, "learning_rate": 0.01}, 1.0
    )
    trainer.clear_counts.assign([50])
    for number in range(2):
        step(trainer, make_batch(number), probing=True)
    assert sum(trainer.merge.mask.cleared) == 100
    before, probe = state(trainer), trainer.probe_values()
    batch, good_batch = make_batch(2), make_batch(3)
    if kind == "data":
        batch = with_nan(batch)
    else:
        trainer.optimizer._learning_rate.peak = 1e30
    logs = trainer.train_step(tensors(batch), probing=True)
    [bad] = bad_steps(np.asarray(logs[STEP_ROW])[None], 7)
    assert_same(state(trainer), before)
    assert trainer.probe_values() == probe
    assert trainer.optimizer.iterations.numpy() == 3
    assert trainer.anomaly_guard.bad_steps.numpy() == 1
    assert bad.step == 7
    names = [variable.path for variable in trainer.network.trainable_variables]
    reached = {names[i].split("/")[0] for i in bad.variables}
    if kind == "data":
        assert "nan" in bad.reason and "image_embedding" in reached
        assert "text_embedding" not in reached and "mlm_head" not in reached
    else:
        assert bad.largest_update > 1e30 and "move a weight" in bad.reason and not reached
        trainer.optimizer._learning_rate.peak = 0.01
    step(trainer, good_batch, probing=True)
    assert sum(trainer.merge.mask.cleared) == 150
    assert all(np.isfinite(value).all() for value in state(trainer).values())
    after = state(trainer)
    assert any(np.any(after[name] != value) for name, value in before.items() if "kernel" in name)
