"""What weightings of two gradients decide by and return, and the two simplest weightings."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_vitbert.configs import merges
from keras_vitbert.configs.sections import Section


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


def square_sums(text: list, image: list) -> Any:
    """`<t, t>`, `<i, i>` and `<t, i>` of two gradients in several tensors: float32 `(3,)`."""

    def total(first, second):
        found = [ops.sum(a * b) for a, b in zip(first, second, strict=True)]
        return ops.sum(ops.cast(ops.stack(found), "float32"))

    return ops.stack([total(text, text), total(image, image), total(text, image)])


def products(sums: Any) -> Products:
    """`Products` of rows of `square_sums`, `(rows, 3)`."""
    text_norm, image_norm = ops.sqrt(sums[:, 0]), ops.sqrt(sums[:, 1])
    cosine = ops.divide_no_nan(ops.divide_no_nan(sums[:, 2], text_norm), image_norm)
    return Products(text_norm, image_norm, ops.clip(cosine, -1.0, 1.0))


class Weights(NamedTuple):
    """How much of each gradient goes into a task's part of the merged one.

    The text's part is `text * t + image_in_text * i`, the image's is
    `image * i + text_in_image * t`. The merged gradient is their sum or, with a mask, takes each
    entry from one of them.

    Attributes:
        text, image, image_in_text, text_in_image: floats, or float32 tensors `(rows,)` with a value
            for each block, or one for all.
    """

    text: Any = 1.0
    image: Any = 1.0
    image_in_text: Any = 0.0
    text_in_image: Any = 0.0


class Weighting(keras.layers.Layer):
    """The base class of all weightings of the gradients of two tasks, called text and image.

    A subclass declares what it needs, and the step provides no more.

    Attributes:
        options: the options, of the type `Options`, which has their defaults and ranges.
        needs_products: bool, whether it needs the inner products of the gradients, summed over all
            replicas. If so, both gradients are summed; otherwise merging is linear, and only the
            merged gradient is summed.
        needs_losses: bool, whether it needs both losses over the global batch.
        is_fixed: bool, whether the weights are numbers that no step changes.
        weighs_losses: bool, whether the weights are those of the losses, so that they also act on
            variables that only one task reaches.

    Raises:
        ValueError: an option is out of range.
    """

    Options: type[Section] = Section
    needs_products = False
    needs_losses = False
    weighs_losses = False
    is_fixed = False

    def __init__(self, *, name: str | None = None, **options: Any):
        super().__init__(name=name)
        self.options: Any = self.Options(**options)

    def make_state(self, rows: int):
        """Makes the variables that `weigh` reads and whose next values it returns.

        Args:
            rows: how many blocks are weighted separately; 1 if none are.
        """

    def state_weight(self, name: str, shape: tuple, initializer: Any = "zeros", dtype="float32"):
        """Makes a variable of the state."""
        return self.add_weight(
            name=name, shape=shape, initializer=initializer, dtype=dtype, trainable=False
        )

    def loss(self, text_loss: Any, image_loss: Any) -> Any:
        """The loss to report and to judge a step by; most weightings have none: this is the sum."""
        return text_loss + image_loss

    def weigh(self, products: Any, losses: Any, step: Any) -> tuple[Weights, list]:
        """Weighs the gradients of a step.

        Args:
            products: `Products`, or None if it does not need them.
            losses: pair of scalar float32 tensors, of the text and the image; or None.
            step: scalar int tensor, completed steps.

        Returns:
            (`Weights`; list of pairs of a variable and its next value).
        """
        raise NotImplementedError

    def learned(self, losses: Any, losses_again: Callable) -> list:
        """The changes of state that follow from an update: list like that of `weigh`.

        Args:
            losses, losses_again: see `Merge.after`; calling the second takes one more
                forward pass.
        """
        del losses, losses_again
        return []


class Unit(Weighting):
    """Leaves each task's gradient as it is: `t + i`, or eq. 8 with a mask."""

    is_fixed = True

    def weigh(self, products, losses, step):
        return Weights(), []


class Sum(Weighting):
    """`dL = r dL_image + (1 - r) dL_text` (eq. 9), fixed weights: the joint baseline.

    Args:
        image_loss_ratio: `r`; the paper's best is 0.2.
    """

    is_fixed = True
    weighs_losses = True

    def __init__(self, image_loss_ratio: float = 0.2, name: str | None = None):
        super().__init__(name=name)
        merges.Merge(image_loss_ratio=image_loss_ratio)  # which knows the range
        self.image_loss_ratio = image_loss_ratio

    def loss(self, text_loss, image_loss):
        """The loss whose gradient the merge returns."""
        return self.image_loss_ratio * image_loss + (1 - self.image_loss_ratio) * text_loss

    def weigh(self, products, losses, step):
        return Weights(1 - self.image_loss_ratio, self.image_loss_ratio), []
