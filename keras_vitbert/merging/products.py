"""Inner products of two gradients, by block or over all: what most merges decide by."""

from typing import Any, NamedTuple

from keras import ops


class Products(NamedTuple):
    """Norms and cosine of two gradients, with a row for each block or one for all.

    They take the place of the three inner products, so that no value that a merge computes
    overflows unless a weight does.

    Attributes:
        text_norm, image_norm: float32 tensors `(rows,)`, `|t|` and `|i|`.
        cosine: float32 tensor `(rows,)`, in [-1, 1]; 0 where a gradient is 0.
    """

    text_norm: Any
    image_norm: Any
    cosine: Any


def square_sums(text, image):
    """The three inner products of two gradients.

    Args:
        text, image: lists of float tensors of the same shapes.

    Returns:
        float32 tensor `(3,)`: `<t, t>`, `<i, i>` and `<t, i>`.
    """

    def total(first, second):
        found = [ops.sum(a * b) for a, b in zip(first, second, strict=True)]
        return ops.sum(ops.cast(ops.stack(found), "float32"))

    return ops.stack([total(text, text), total(image, image), total(text, image)])


def products(sums):
    """`Products` of rows of `square_sums`.

    Args:
        sums: float32 tensor `(rows, 3)`.
    """
    text_norm, image_norm = ops.sqrt(sums[:, 0]), ops.sqrt(sums[:, 1])
    cosine = ops.divide_no_nan(ops.divide_no_nan(sums[:, 2], text_norm), image_norm)
    return Products(text_norm, image_norm, ops.clip(cosine, -1.0, 1.0))
