"""The scale of images, the same in the whole Python API: integers 0 to 255, floats 0 to 1."""

from typing import Any

import numpy as np
from keras import ops

from keras_vitbert.model.backbone_inputs import known_values

_TOLERANCE = 0.01  # for resizing and for bfloat16

WRONG_INTEGERS = "integers are 0 to 255: convert them to that range, or give floats in [0, 1]"
WRONG_SCALE = "floats are 0 to 1: divide them by 255, or give the integers that they come from"


def scaled(images):
    """Images as floats in [0, 1].

    Values are checked in an eager call, see `backbone_inputs`.

    Args:
        images: `(batch, height, width, 3)`, integers in 0 to 255 or floats in [0, 1].

    Returns:
        Floats of the same shape; integers become float32.

    Raises:
        ValueError: integers are outside 0 to 255 or have 16 bits, or floats are outside [0, 1].
    """
    kind = str(images.dtype)
    if "uint16" in kind:
        raise ValueError(f"images: integers of 16 bits; {WRONG_INTEGERS}")
    if "uint8" in kind:
        return _from_bytes(images)
    values, is_float = known_values(images), "int" not in kind
    least, most = (-_TOLERANCE, 1 + _TOLERANCE) if is_float else (0, 255)
    with np.errstate(invalid="ignore"):  # NaN has no scale; training has its own check
        if values is not None and ((values < least) | (values > most)).any():
            found = f"from {float(np.nanmin(values)):.4g} to {float(np.nanmax(values)):.4g}"
            what, wrong = ("floats", WRONG_SCALE) if is_float else ("integers", WRONG_INTEGERS)
            raise ValueError(f"images: {what} {found}; {wrong}")
    return images if is_float else _from_bytes(images)


def _from_bytes(images):
    cast: Any = ops.cast
    return cast(images, "float32") * (1 / 255)
