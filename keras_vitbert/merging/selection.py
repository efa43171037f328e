"""Exact selection of the smallest magnitudes over many tensors, without sorting or concatenation.

Non-negative floats are ordered like their bit patterns read as integers. So the k-th smallest value
is found by bisection over the bits: 31 passes that only count. Of equal values the first ones in
flat order are selected; the position where they end is found by the same bisection over the flat
index. The cost is a fixed number of counting passes, the memory one copy of the values as integers.

All tensors as large as the values are uint32, bool or float32: TensorFlow keeps int32 arithmetic on
the host unless it is compiled, and a GPU's tensors would be copied there in every pass.
"""

import itertools
import math
from collections.abc import Callable, Sequence

from keras_vitbert.model.tensors import Tensor, ops

MAGNITUDE_BITS = 31  # float32 without its sign
_EXACT = 2**24  # float32 represents every integer up to this


def smallest(
    values: Sequence[Tensor], candidates: Sequence[Tensor], count: Tensor | int
) -> list[Tensor]:
    """Marks the `count` candidates with the smallest magnitude over all tensors together.

    Ties are broken by position (list order, then row-major), so that exactly `count` entries are
    marked. NaNs are larger than everything.

    Args:
        values: float tensors; compared in float32 by absolute value. They may have 2**31 - 1
            entries in total.
        candidates: boolean tensors of the same shapes; only true entries can be marked.
        count: at most the number of candidates.

    Returns:
        Boolean tensors, true where marked.
    """
    bits = [magnitude_bits(value) for value in values]
    count = ops.cast(count, "int32")

    def number_up_to(limit: Tensor) -> Tensor:
        limit = ops.cast(limit, "uint32")
        return _count([c & (b <= limit) for b, c in zip(bits, candidates, strict=True)])

    threshold = ops.cast(_least(number_up_to, count, MAGNITUDE_BITS), "uint32")

    below = [c & (b < threshold) for b, c in zip(bits, candidates, strict=True)]
    ties = [c & (b == threshold) for b, c in zip(bits, candidates, strict=True)]
    wanted_ties = count - _count(below)

    sizes = [math.prod(value.shape) for value in values]
    starts = list(itertools.accumulate(sizes, initial=0))

    def ties_up_to(limit: Tensor) -> list[Tensor]:
        """The ties whose flat index over all tensors is at most `limit`."""
        return [
            tie & _up_to(limit - start, tie.shape)
            for tie, start in zip(ties, starts[:-1], strict=True)
        ]

    last = _least(lambda limit: _count(ties_up_to(limit)), wanted_ties, starts[-1].bit_length())
    last = ops.where(wanted_ties > 0, last, -1)
    return [b | t for b, t in zip(below, ties_up_to(last), strict=True)]


def magnitude_bits(values: Tensor) -> Tensor:
    """Integers in the order of the absolute values in float32, NaNs last: uint32 below 2**31."""
    # Clearing the sign bit is the absolute value, and unlike `ops.abs` it also orders NaNs last.
    return ops.view(ops.cast(values, "float32"), "uint32") & 0x7FFFFFFF


def _up_to(last: Tensor, shape: tuple[int, ...]) -> Tensor:
    """True at the places of a tensor up to `last` in flat order; `last` may be outside of it."""
    columns = shape[-1] if shape else 1
    rows = math.prod(shape) // max(columns, 1)
    # Indices would take as much memory as the values. TensorFlow even computes them before it
    # compiles, and they become constants of the program, 340 MB at the paper's size.
    count = ops.cast(ops.clip(last, -1, rows * columns - 1) + 1, "uint32")
    before = _range(rows) * columns
    of_rows = ops.maximum(count, before) - before
    return ops.reshape(_range(columns) < of_rows[:, None], shape)


def _range(size: int) -> Tensor:
    return ops.cast(ops.arange(size, dtype="int32"), "uint32")


def _count(flags: list[Tensor]) -> Tensor:
    """The number of true entries, int32."""
    sums = [one for flag in flags for one in _sums(flag)]
    return ops.sum(ops.cast(ops.stack(sums), "int32"))


def _sums(flags: Tensor) -> list[Tensor]:
    """Sums in float32 over slices of a tensor that are small enough for exact sums."""
    size = math.prod(flags.shape)
    if size <= _EXACT:
        return [ops.sum(ops.cast(flags, "float32"))]
    rows = flags.shape[0]
    height = _EXACT * rows // size  # of a slice
    if not height:
        return [one for row in range(rows) for one in _sums(flags[row])]
    return [one for row in range(0, rows, height) for one in _sums(flags[row : row + height])]


def _least(count_up_to: Callable[[Tensor], Tensor], wanted: Tensor, bits: int) -> Tensor:
    """The least integer of `bits` bits for which `count_up_to` is at least `wanted`."""

    def body(place: Tensor, high_part: Tensor) -> Tensor:
        # The bit stays clear if the integers below `high_part + 2**bit` are enough.
        step = ops.left_shift(1, bits - 1 - place)
        enough = count_up_to(high_part + (step - 1)) >= wanted
        return ops.where(enough, high_part, high_part + step)

    return ops.fori_loop(0, bits, body, ops.convert_to_tensor(0, "int32"))
