"""Tensors of imported models: their names, their shapes, and whether they match an architecture.

A shape is a tuple of int; None in it stands for any size.
"""

import re

import numpy as np

_SHOWN = 4  # names in a message


def renamed(tensors, patterns):
    """The same tensors under other names.

    Args:
        tensors: dict of name to array.
        patterns: sequence of (regular expression, replacement), applied in this order, as in
            `re.sub`.

    Returns:
        dict of name to array.
    """
    for pattern, replacement in patterns:
        tensors = {re.sub(pattern, replacement, name): value for name, value in tensors.items()}
    return tensors


def in_their_layout(name, value, hidden):
    """A tensor of Keras or Flax in the layout of transformers.

    Args:
        name: str; it ends in `kernel` or `bias` if the tensor is one.
        value: array. A kernel is `(height, width, inputs, outputs)` for a convolution and
            `(inputs, outputs)` for a dense layer. In attention, kernels and biases have two axes
            for the heads and their size.
        hidden: int, the width of the model, which attention keeps.

    Returns:
        array; a kernel is `(outputs, inputs, height, width)` or `(outputs, inputs)`.
    """
    if name.endswith("bias"):
        return value.reshape(-1)
    if not name.endswith("kernel"):
        return value
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    return (value.reshape(-1, hidden) if value.ndim == 3 else value).T


def account(tensors, wanted, ignored, what):
    """Checks that tensors match an architecture exactly, and returns them as float32.

    Args:
        tensors: dict of name to array.
        wanted: dict of name to shape.
        ignored: str, a regular expression for whole names that may be present but are not used.
        what: str, what they should be.

    Returns:
        dict of name to float32 array, in the order of `wanted`.

    Raises:
        ValueError: names what is missing, left over, of another shape, an integer, or not finite.
    """
    missing = [name for name in wanted if name not in tensors]
    others = [n for n in sorted(tensors) if n not in wanted and not re.fullmatch(ignored, n)]
    shapes = [
        f"{name} {_shape(tensors[name].shape)} instead of {_shape(shape)}"
        for name, shape in wanted.items()
        if name in tensors and not _fits(tensors[name].shape, shape)
    ]
    faults = []
    if missing:
        faults.append(f"it lacks {_listed(missing, 'tensor')}")
    if others:
        faults.append(f"it has {_listed(others, 'unknown tensor')}")
    if shapes:
        faults.append(f"it has {_listed(shapes, 'tensor')}")
    if faults:
        raise ValueError(f"is not the {what} of its config: {'; '.join(faults)}")
    integers = [name for name in wanted if tensors[name].dtype.kind in "iub"]
    if integers:
        raise ValueError(
            f"has {_listed(integers, 'tensor')} of integers, perhaps quantised; give the model in "
            "floats"
        )
    result = {name: np.asarray(tensors[name], np.float32) for name in wanted}
    require_finite(result, what)
    return result


def require_finite(tensors, where):
    """Refuses tensors with values that are not finite.

    Args:
        tensors: dict of name to array.
        where: str, where they come from.

    Raises:
        ValueError: names the tensors.
    """
    damaged = [name for name, value in tensors.items() if not np.isfinite(value).all()]
    if damaged:
        raise ValueError(f"{where}: {_listed(damaged, 'tensor')} with values that are not finite")


def _fits(shape, wanted):
    return len(shape) == len(wanted) and all(
        w is None or s == w for s, w in zip(shape, wanted, strict=True)
    )


def _shape(shape):
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"


def _listed(names, noun):
    """`3 tensors: a, b, c`; only the first few of many."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    plural = "" if len(names) == 1 else "s"
    return f"{len(names)} {noun}{plural}: {', '.join(names[:_SHOWN])}{more}"
