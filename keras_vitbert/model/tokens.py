"""Which tokens of a sequence a head reads."""

from typing import Any

from keras import ops


def tokens_at(sequence, positions):
    """Some tokens of a batch of sequences.

    Args:
        sequence: `(batch, length, D)`.
        positions: int, so many from the first on; or `(texts, count)` integers, counted over all
            sequences, see `counted_over_all`.

    Returns:
        `(batch, positions, D)`, or `(texts, count, D)`.
    """
    if isinstance(positions, int):
        # Not cut out: a TPU's compiler gives a piece of one token a layout of its own, and then all
        # sequences before it the same, which products of attention have to transpose.
        shape: Any = ops.shape(sequence)
        place = ops.expand_dims(ops.arange(shape[1]), 1)
        tokens = [ops.sum(ops.where(place == n, sequence, 0), 1) for n in range(positions)]
        return ops.stack(tokens, 1)
    # Whole rows: `take_along_axis` gathers single numbers, on a TPU a tile of memory for each.
    return ops.take(ops.reshape(sequence, (-1, sequence.shape[-1])), positions, axis=0)


def shape_at(shape, positions):
    """The shape of what `tokens_at` returns.

    Args:
        shape: tuple, of the sequences; sizes may be None.
        positions: see `tokens_at`; None for all.

    Returns:
        tuple.
    """
    if positions is None:
        return shape
    taken = (shape[0], positions) if isinstance(positions, int) else positions.shape
    return (*taken, shape[-1])


def counted_over_all(positions, length):
    """Positions in each sequence as those in all of them, one behind the other.

    Args:
        positions: `(batch, count)` integers.
        length: int or scalar tensor, tokens of a sequence.

    Returns:
        `(batch, count)` int32.
    """
    shape: Any = ops.shape(positions)
    first = ops.expand_dims(ops.arange(shape[0], dtype="int32") * length, 1)
    return ops.cast(positions, "int32") + first
