"""Which tokens of a sequence a head reads."""

from typing import Any

from keras import ops


def tokens_at(sequence, positions):
    """Some tokens of a batch of sequences.

    Args:
        sequence: `(batch, length, D)`.
        positions: int, for that many first tokens; or `(texts, count)` integers, counted over all
            sequences, see `counted_over_all`.

    Returns:
        `(batch, positions, D)`, or `(texts, count, D)`.
    """
    if isinstance(positions, int):
        # Not sliced: a TPU's compiler gives a slice of one token its own layout, then gives all
        # sequences before it the same layout, which the products of attention must transpose.
        shape: Any = ops.shape(sequence)
        place = ops.expand_dims(ops.arange(shape[1]), 1)
        tokens = [ops.sum(ops.where(place == n, sequence, 0), 1) for n in range(positions)]
        return ops.stack(tokens, 1)
    # Whole rows: `take_along_axis` gathers single values, on a TPU a tile of memory for each.
    return ops.take(ops.reshape(sequence, (-1, sequence.shape[-1])), positions, axis=0)


def shape_at(shape, positions):
    """The shape of what `tokens_at` returns.

    Args:
        shape: tuple, the shape of the sequences; sizes may be None.
        positions: see `tokens_at`; None for all.

    Returns:
        tuple.
    """
    if positions is None:
        return shape
    taken = (shape[0], positions) if isinstance(positions, int) else positions.shape
    return (*taken, shape[-1])


def starts_of(sequences):
    """Where each sequence of a batch begins, if all are laid one after another.

    Args:
        sequences: `(batch, length, ...)`.

    Returns:
        `(batch,)` int32.
    """
    shape: Any = ops.shape(sequences)
    return ops.arange(shape[0], dtype="int32") * shape[1]


def counted_over_all(positions, starts):
    """Turns positions in each text into positions in all sequences, one after another.

    Args:
        positions: `(texts, count)` integers.
        starts: `(texts,)` integers, where each text begins, see `starts_of`.

    Returns:
        `(texts, count)` integers.
    """
    return ops.expand_dims(starts, 1) + ops.cast(positions, starts.dtype)
