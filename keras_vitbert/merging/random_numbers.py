"""Random numbers keyed by seed and step: the same on every replica, and after a resume."""

import keras
from keras import ops


def keyed_draws(generator, seed, step):
    """A scope in which `keras.random` draws what a seed and a step determine.

    Args:
        generator: `keras.random.SeedGenerator`, to give to the draws.
        seed: int in [0, 2**32).
        step: scalar int tensor, or int.
    """
    state = generator.state
    key = [ops.cast(seed, state.dtype), ops.cast(step, state.dtype)]
    return keras.StatelessScope([(state, ops.stack(key))])
