import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.training.losses import cross_entropy, distillation_loss
from tests.keras_vitbert.training import reference

EPSILON = np.finfo(np.float32).eps
SHAPE = (5, 4, 11)  # rows, masked positions, classes


def draw(seed, scale=3.0):
    rng = np.random.default_rng(seed)
    student, teacher = (rng.normal(0, scale, SHAPE).astype(np.float32) for _ in range(2))
    return rng.integers(0, SHAPE[-1], SHAPE[:-1], dtype=np.int32), student, teacher


@pytest.mark.parametrize("label", [-1, SHAPE[-1]])
def test_labels_that_are_no_class(label):
    labels, student, _ = draw(0)
    labels[1, 2] = label
    with pytest.raises(ValueError, match=rf"labels: {label} is not in \[0, 11\)"):
        cross_entropy(labels, student)


@pytest.mark.parametrize(
    ("ratio", "temperature", "scale"),
    [
        (0, 1, 3),
        (1, 2, 3),
        *((0.3, temperature, 3) for temperature in (0, 1e-6, 1, 1e4)),
        *((0.3, temperature, 300) for temperature in (0, 1e-6, 1e4)),
    ],
)
def test_equation_7(ratio, temperature, scale):
    """Also of extreme logits, and of ties everywhere."""
    labels, student, teacher = draw(1, scale)
    student[0], teacher[1] = 0, 0
    arguments = labels, student, teacher, ratio, temperature
    student = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(student)
        loss = distillation_loss(labels, student, teacher, ratio, temperature)
    # The divergence is a small difference of logits / T: float32's rounding comes back times T^2
    # in the value, and times T in the gradient.
    atol = 8 * EPSILON * max(scale, temperature**2)
    np.testing.assert_allclose(loss, reference.distillation(*arguments), rtol=1e-5, atol=atol)
    gradient = tape.gradient(loss, student)
    expected = reference.distillation_gradient(*arguments)
    atol = EPSILON * max(1, temperature)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=atol)
