"""Clipping of a gradient by its global norm (Pascanu et al. 2013)."""

from keras import ops


def clip_scale(norm, limit):
    """The factor that brings a gradient to a limit, or 1 where its norm is below.

    Args:
        norm: scalar float32 tensor, of the whole gradient.
        limit: float > 0.

    Returns:
        scalar float32 tensor; that of a gradient of 0 is 1.
    """
    return limit * ops.minimum(1 / norm, 1 / limit)
