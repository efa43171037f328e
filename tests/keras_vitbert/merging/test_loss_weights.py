import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert import merging
from tests.keras_vitbert.merging import reference_merges
from tests.keras_vitbert.merging.pairs import SIZE, built, draw, flat, pair, split

WITH_STATE = [merging.Uncertainty(), merging.DWA(window=2), merging.GradNorm(), merging.FAMO()]


def draw_losses(seed, steps):
    """Losses of text and image that fall at random: array `(steps, 2)`."""
    rng = np.random.default_rng(seed)
    falls = np.exp(-np.arange(steps)[:, None] * [0.02, 0.1])
    return np.float64(np.float32([7, 2] * falls * rng.uniform(0.7, 1.3, (steps, 2))))


class Run:
    """Steps of a merge whose gradients are known; variables of one task tell the weights."""

    def __init__(self, weighting):
        self.merge = built(weighting)
        self.number = 0
        self.one_step = tf.function(self._step, autograph=False)

    def _step(self, gradients, losses, after, number, good):
        own = tf.ones(1)
        text, image = map(split, tf.unstack(gradients))
        losses, after = tf.unstack(losses), tf.unstack(after)
        merge = self.merge
        merged = merge.merge([own, *text, None], [None, *image, own], losses, number)
        merge.keep(merged.state, good)
        merge.learn(losses, lambda: after, good)
        text, *shared, image = merged.gradients
        return tf.concat([text, image], axis=0), shared

    def step(self, losses=(1.0, 1.0), gradients=None, after=(1.0, 1.0), good=True):
        """The weights of variables of one task; checks that they are those of shared ones."""
        gradients = draw(0) if gradients is None else gradients
        arguments = tf.constant(losses, tf.float32), tf.constant(after, tf.float32)
        number, good = tf.constant(self.number), tf.constant(good)
        weights, shared = self.one_step(tf.constant(gradients), *arguments, number, good)
        weights = weights.numpy()
        expected = weights.astype(np.float64) @ gradients
        np.testing.assert_allclose(flat(shared), expected, rtol=1e-5, atol=1e-5)
        self.number += 1
        return weights

    def state(self):
        return {v.path: v.numpy() for v in self.merge.variables}


# --- against the references, over several steps --------------------------------------------------


def test_uncertainty():
    losses = draw_losses(0, 12)
    run = Run(merging.Uncertainty(rate=0.1))
    history, log_variances = reference_merges.uncertainty(losses, 0.1)
    np.testing.assert_allclose([run.step(each) for each in losses], history, rtol=1e-5)
    found = run.merge.weighting.log_variances.numpy()
    np.testing.assert_allclose(found, log_variances, rtol=1e-5)


@pytest.mark.parametrize("window, temperature", [(1, 2.0), (3, 0.5)])
def test_dwa(window, temperature):
    losses = draw_losses(1, 11)
    run = Run(merging.DWA(temperature=temperature, window=window))
    history = reference_merges.dwa(losses, temperature, window)
    assert np.all(history[2 * window - 1] == 1) and np.all(history[2 * window] != 1)
    np.testing.assert_allclose([run.step(each) for each in losses], history, rtol=1e-5)
    sizes = 11 % window
    assert run.merge.weighting.count.numpy() == sizes
    begun = losses[len(losses) - sizes :].sum(0)
    np.testing.assert_allclose(run.merge.weighting.total.numpy(), begun, rtol=1e-6)


@pytest.mark.parametrize("alpha, rate", [(1.5, 0.025), (0.12, 0.2)])
def test_gradnorm(alpha, rate):
    losses = draw_losses(2, 12)
    gradients = [pair(step, 1.3, 3 + step % 5, 2) for step in range(12)]
    norms = [np.linalg.norm(np.float64(each), axis=1) for each in gradients]
    run = Run(merging.GradNorm(alpha=alpha, rate=rate))
    history, weights = reference_merges.gradnorm(losses, norms, alpha, rate)
    found = [run.step(*each) for each in zip(losses, gradients, strict=True)]
    np.testing.assert_allclose(found, history, rtol=1e-4)
    np.testing.assert_allclose(run.merge.weighting.task_weights.numpy(), weights, rtol=1e-4)
    np.testing.assert_array_equal(run.merge.weighting.first.numpy(), losses[0])


@pytest.mark.parametrize("rate, decay", [(0.025, 0.001), (1.0, 0.3)])
def test_famo(rate, decay):
    losses = draw_losses(3, 10)
    falls = np.random.default_rng(4).uniform(0.8, 1.05, losses.shape)
    after = np.float64(np.float32(losses * falls))
    run = Run(merging.FAMO(rate=rate, decay=decay))
    history, logits = reference_merges.famo(losses, after, rate, decay)
    found = [run.step(x, after=y) for x, y in zip(losses, after, strict=True)]
    np.testing.assert_allclose(found, history, rtol=1e-4)
    np.testing.assert_allclose(np.sum(found, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(run.merge.weighting.logits.numpy(), logits, rtol=1e-3, atol=1e-6)


# --- what all have in common ---------------------------------------------------------------------


@pytest.mark.parametrize("weighting", WITH_STATE, ids=lambda one: type(one).__name__)
def test_a_bad_step_changes_nothing(weighting):
    run = Run(weighting)
    for losses in draw_losses(6, 3):
        run.step(losses, after=0.9 * losses)
    before = run.state()
    run.step([3.0, 5.0], draw(9), after=[1.0, 5.0], good=False)
    run.step([np.nan, 5.0], draw(9), after=[np.inf, 5.0], good=False)
    after = run.state()
    assert before.keys() == after.keys() and len(before) > 1
    for path, value in before.items():
        np.testing.assert_array_equal(value, after[path], err_msg=path)
    run.step([3.0, 5.0], draw(9), after=[1.0, 5.0])
    changed = [np.any(value != before[path]) for path, value in run.state().items()]
    assert np.count_nonzero(changed) > 1  # the log is not all of it


def test_equation_9():
    run = Run(merging.Sum(0.2))
    assert run.step() == pytest.approx([0.8, 0.2])
    assert run.merge.loss(3.0, 5.0) == pytest.approx(0.8 * 3 + 0.2 * 5)
    assert merging.Merge(merging.GradNorm()).loss(3.0, 5.0) == 8  # that of any other is the sum


def test_the_last_weights_are_shown():
    run = Run(merging.GradNorm())
    for _ in range(2):
        text, image = run.step(gradients=pair(0, 0.7, 2, 3))
    assert run.merge.values() == {
        "merge/text_weight": pytest.approx(text),
        "merge/image_weight": pytest.approx(image),
        "merge/cosine": pytest.approx(-0.3, abs=1e-6),
    }
    assert text != image and built(merging.Unit()).values() == {}


# --- random numbers ------------------------------------------------------------------------------


def test_alternate_is_text_then_image():
    run = Run(merging.Alternate())
    weights = [run.step() for _ in range(5)]
    np.testing.assert_array_equal(weights, [[1, 0], [0, 1]] * 2 + [[1, 0]])


def test_random_weights_depend_on_seed_and_step_only():
    steps = [0, 1, 77, 2**30]

    def drawn(seed, steps):
        run, found = Run(merging.RandomWeights(seed)), []
        for run.number in steps:
            found.append(run.step())
            run.number -= 1
        return np.array(found)

    one = drawn(7, steps)
    np.testing.assert_array_equal(one[::-1], drawn(7, steps[::-1]))
    assert len({tuple(weights) for weights in one}) == len(steps)
    assert np.all(drawn(2**32 - 1, steps) != one)
    np.testing.assert_allclose(one.sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize("leak", [0.0, 0.3])
def test_graddrop_of_given_numbers(monkeypatch, leak):
    gradients = draw(0)
    gradients[0, :4] = [0, 1, -1, 0]
    gradients[1, :4] = [1, 0, 0, 0]
    drawn = np.random.default_rng(1).uniform(size=SIZE).astype(np.float32)
    numbers = iter(split(drawn))
    monkeypatch.setattr(merging.masks, "uniform", lambda *_: next(numbers))
    merge = built(merging.Unit(), merging.GradDrop(leak))
    merged = merge.merge(*map(split, gradients)).gradients
    expected = reference_merges.graddrop(gradients.astype(np.float64), drawn, leak)
    np.testing.assert_allclose(flat(merged), expected, rtol=1e-6)


def test_fixed_weights_are_logged():
    assert built(merging.Sum(0.2)).values() == {"merge/text_weight": 0.8, "merge/image_weight": 0.2}
    assert built(merging.Unit(), merging.GradientMask()).values() == {}
