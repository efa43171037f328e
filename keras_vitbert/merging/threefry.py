"""Threefry-2x32: the same random numbers on every backend and device.

Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

import numpy as np
from keras import ops

SHORT = 13  # rounds, the fewest in which the paper finds no fault
_ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
_PARITY = 0x1BD11BDA


def threefry(key, counter, rounds=20):
    """Encrypts counters: a bijection of each counter for each key.

    Args:
        key: pair of uint32 tensors.
        counter: pair of uint32 tensors, of shapes that broadcast with those of the key.
        rounds: int, rounds of the cipher.

    Returns:
        pair of uint32 tensors.
    """
    keys = (*key, key[0] ^ key[1] ^ word(_PARITY))
    first, second = counter[0] + keys[0], counter[1] + keys[1]
    for number in range(rounds):
        group, place = divmod(number, 4)
        rotation = _ROTATIONS[group % 2][place]
        first += second
        left = ops.left_shift(second, word(rotation))
        right = ops.right_shift(second, word(32 - rotation))
        second = (left | right) ^ first
        if place == 3:
            first += keys[(group + 1) % 3]
            second += keys[(group + 2) % 3] + word(group + 1)
    return first, second


def word(number):
    """A number as a scalar uint32 tensor."""
    return ops.convert_to_tensor(np.uint32(number))
