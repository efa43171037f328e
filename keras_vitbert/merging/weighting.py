"""What all weightings of two gradients have in common, and the two simplest weightings."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras


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

    An option out of range raises ValueError. A subclass declares what it needs, and the step
    provides no more:

    Attributes:
        needs_products: bool, whether it needs the inner products of the gradients, summed over all
            replicas. If so, both gradients are summed; otherwise merging is linear, and only the
            merged gradient is summed.
        needs_losses: bool, whether it needs both losses over the global batch.
        is_fixed: bool, whether the weights are numbers that no step changes.
        weighs_losses: bool, whether the weights are those of the losses, so that they also act on
            variables that only one task reaches.
    """

    needs_products = False
    needs_losses = False
    weighs_losses = False
    is_fixed = False

    def make_state(self, rows):
        """Makes the variables that `weigh` reads and whose next values it returns.

        Args:
            rows: int, how many blocks are weighted separately; 1 if none are.
        """

    def state_weight(self, name, shape, initializer: Any = "zeros", dtype="float32"):
        """Makes a variable of the state.

        Args:
            name: str.
            shape: tuple of int.
            initializer: a Keras initializer.
            dtype: str.
        """
        return self.add_weight(
            name=name, shape=shape, initializer=initializer, dtype=dtype, trainable=False
        )

    def loss(self, text_loss, image_loss):
        """The loss to report and to judge a step by; most weightings have none: this is the sum.

        Args:
            text_loss, image_loss: scalar tensors.
        """
        return text_loss + image_loss

    def weigh(self, products, losses, step):
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
        image_loss_ratio: float in [0, 1], `r`; the paper's best is 0.2.

    Raises:
        ValueError: the ratio is out of range.
    """

    is_fixed = True
    weighs_losses = True

    def __init__(self, image_loss_ratio=0.2, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= image_loss_ratio <= 1:
            raise ValueError(f"image_loss_ratio {image_loss_ratio} is not in [0, 1]")
        self.image_loss_ratio = image_loss_ratio

    def loss(self, text_loss, image_loss):
        """The loss whose gradient the merge returns.

        Args:
            text_loss, image_loss: scalar tensors.
        """
        return self.image_loss_ratio * image_loss + (1 - self.image_loss_ratio) * text_loss

    def weigh(self, products, losses, step):
        return Weights(1 - self.image_loss_ratio, self.image_loss_ratio), []


def at_least(bound, value, name):
    """Returns a value that is finite and at least a bound.

    Args:
        bound, value: float.
        name: str, what the value is, for the message.

    Raises:
        ValueError: it is not.
    """
    if not bound <= value < math.inf:
        raise ValueError(f"{name} {value} must be at least {bound}")
    return value


def above(bound, value, name):
    """Returns a value that is finite and above a bound.

    Args:
        bound, value, name: as in `at_least`.

    Raises:
        ValueError: it is not.
    """
    if not bound < value < math.inf:
        raise ValueError(f"{name} {value} must be above {bound}")
    return value
