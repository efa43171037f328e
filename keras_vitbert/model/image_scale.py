"""The scale of images, the same in the whole Python API: integers 0 to 255, floats 0 to 1."""

from typing import Any

import numpy as np
from keras import ops

_TOLERANCE = 0.01  # for resizing and for bfloat16

WRONG_SCALE = "floats are 0 to 1: divide them by 255, or give the integers that they come from"


def scaled(images):
    """Images as floats in [0, 1].

    Floats are checked where that is possible, in an eager call: a graph that is being traced has no
    values yet, and its steps do not pay for the check.

    Args:
        images: `(batch, height, width, 3)`, integers in 0 to 255 or floats in [0, 1].

    Returns:
        Floats of the same shape; integers become float32.

    Raises:
        ValueError: floats are outside [0, 1].
    """
    if "int" in str(images.dtype):
        cast: Any = ops.cast
        return cast(images, "float32") * (1 / 255)
    try:
        values = np.asarray(images)
    except (NotImplementedError, TypeError, ValueError):  # symbolic
        return images
    # NaN has no scale; training has its own check.
    if values.size and (values.min() < -_TOLERANCE or values.max() > 1 + _TOLERANCE):
        raise ValueError(
            f"images: floats from {float(values.min()):.4g} to {float(values.max()):.4g}; "
            f"{WRONG_SCALE}"
        )
    return images
