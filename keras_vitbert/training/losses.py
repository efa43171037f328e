"""The losses, written in `keras.ops` only and computed in float32.

Each function returns one loss per example (or masked position); the train step sums them and
divides by the count over all replicas.
"""

from keras_vitbert.model.backbone_inputs import require_below
from keras_vitbert.model.tensors import Tensor, ops


def cross_entropy(labels: Tensor, logits: Tensor) -> Tensor:
    """`-log softmax(logits)[label]`: float32 of the shape of the labels.

    Args:
        labels: `(...)` integers.
        logits: `(..., classes)`.

    Raises:
        ValueError: in an eager call, a label is not a class.
    """
    require_below(logits.shape[-1], labels, "labels")
    log_probabilities = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    index = ops.expand_dims(ops.cast(labels, "int32"), axis=-1)
    return -ops.squeeze(ops.take_along_axis(log_probabilities, index, axis=-1), axis=-1)


def smoothed_cross_entropy(labels: Tensor, logits: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy against `(1 - e) onehot(label) + e / classes` (Szegedy et al. 2016, eq. 3).

    `e` is `smoothing`, in [0, 1); the rest is as in `cross_entropy`.
    """
    log_probabilities = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    uniform = -ops.mean(log_probabilities, axis=-1)
    return (1 - smoothing) * cross_entropy(labels, logits) + smoothing * uniform


def divergence(teacher_logits: Tensor, student_logits: Tensor, temperature: float) -> Tensor:
    """`T^2 KL(softmax(z_t / T) || softmax(z_s / T))`, the second term of eq. 7.

    The factor `T^2` is our choice, after Hinton et al. 2015: the formula is missing in our copy of
    the paper. At `T = 1`, the paper's default, it changes nothing.

    At `T = 0` it is the cross-entropy against the teacher's argmax. It is computed from
    `T log softmax(z / T) = u - T logsumexp(u / T)`, `u = z - max z`, whose terms are finite for any
    `T > 0`, however small. With a large `T` it is a small difference of large numbers: the value's
    rounding error is about `1e-7 T^2 log(classes)`; the gradient's is far smaller.

    Logits are `(..., classes)`; `temperature` is `T`, at least 0.
    """
    teacher_logits = ops.cast(teacher_logits, "float32")
    if temperature == 0:
        return cross_entropy(ops.argmax(teacher_logits, axis=-1), student_logits)

    def scaled_log_softmax(logits: Tensor) -> Tensor:  # T log softmax(z / T)
        # The gradient through `max z` is zero, but rounding errors would all go to one class.
        u = logits - ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True))
        return u - temperature * ops.logsumexp(u / temperature, axis=-1, keepdims=True)

    teacher = scaled_log_softmax(teacher_logits)
    student = scaled_log_softmax(ops.cast(student_logits, "float32"))
    probabilities = ops.exp(teacher / temperature)
    return temperature * ops.sum(probabilities * (teacher - student), axis=-1)


def distillation_loss(
    labels: Tensor, student_logits: Tensor, teacher_logits: Tensor, ratio: float, temperature: float
) -> Tensor:
    """`(1 - a) CE(softmax(z_s), y) + a T^2 KL(softmax(z_t / T) || softmax(z_s / T))` (eq. 7).

    For the factor `T^2` see `divergence`.

    Args:
        labels: `(...)` integers, `y`.
        student_logits, teacher_logits: `(..., classes)`, `z_s` and `z_t`. The teacher's may be
            None if `ratio` is 0.
        ratio: `a`, in [0, 1].
        temperature: `T`.
    """
    loss = 0.0
    if ratio < 1:
        loss += (1 - ratio) * cross_entropy(labels, student_logits)
    if ratio > 0:
        loss += ratio * divergence(teacher_logits, student_logits, temperature)
    return loss
