"""Finds a part in a picture."""

import numpy as np


def contains(picture, part):
    """Whether a part is somewhere in a picture, pixel by pixel."""
    windows = np.lib.stride_tricks.sliding_window_view(picture[..., 0], part.shape[:2])
    starts = np.argwhere(np.all(windows[:, :, :, 0] == part[:, 0, 0], axis=-1))
    height, width = part.shape[:2]
    return any(np.array_equal(picture[y : y + height, x : x + width], part) for y, x in starts)
