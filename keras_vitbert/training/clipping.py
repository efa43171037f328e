"""Clipping of a gradient by its global norm (Pascanu et al. 2013)."""

from keras import ops


def clip_scale(norm, limit):
    """The factor that scales a gradient down to a limit, or 1 if its norm is below.

    Args:
        norm: scalar float32 tensor, of the whole gradient.
        limit: float > 0.

    Returns:
        scalar float32 tensor; 1 for a gradient of 0.
    """
    return limit * ops.minimum(1 / norm, 1 / limit)
