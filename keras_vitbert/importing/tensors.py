"""Accounts for the tensors of a model: none is missing, none is left over, all have their shapes.

A shape is a tuple of int; None in it stands for any size.
"""

import re

import numpy as np

from pipelines.command_line import UserError

_SHOWN = 4  # names in a message


def account(tensors, wanted, ignored, label, what):
    """The tensors that a model is made of, as float32.

    Args:
        tensors: dict of name to array.
        wanted: dict of name to shape.
        ignored: str, a regular expression of whole names that may be there and say nothing.
        label: str, where they come from.
        what: str, what they should be.

    Raises:
        UserError: names what is missing, left over, of another shape, or not finite.
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
        raise UserError(
            f"{label}: is not the {what} that its config tells: {'; '.join(faults)}; bring back "
            "the files as they were written"
        )
    result = {name: np.asarray(tensors[name], np.float32) for name in wanted}
    damaged = [name for name, value in result.items() if not np.isfinite(value).all()]
    if damaged:
        raise UserError(
            f"{label}: {_listed(damaged, 'tensor')} with values that are not finite; give another"
        )
    return result


def _fits(shape, wanted):
    return len(shape) == len(wanted) and all(
        w is None or s == w for s, w in zip(shape, wanted, strict=True)
    )


def _shape(shape):
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"


def _listed(names, noun):
    """`3 tensors: a, b, c`; of many only the first few."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    plural = "" if len(names) == 1 else "s"
    return f"{len(names)} {noun}{plural}: {', '.join(names[:_SHOWN])}{more}"
