"""How far images and text use the same hidden units of a block: two numbers, by NumPy alone."""

import numpy as np

TOP = 0.1  # of the units


def top_units(activations, fraction=TOP):
    """The units that answer most.

    Args:
        activations: `(D,)`, at least 0.
        fraction: float, of the units.

    Returns:
        bool `(D,)`: the `k = max(1, round(fraction * D))` units of the largest activations; of
        equal ones those of smaller number. A unit whose activation is 0 does not answer and is
        never among them, so that there may be fewer than `k`, or none.
    """
    activations = np.asarray(activations)
    k = max(1, round(fraction * activations.size))
    top = np.zeros(activations.size, bool)
    top[np.argsort(-activations, kind="stable")[:k]] = True
    return top & (activations > 0)


def overlap(image, text, fraction=TOP):
    """The share of the top units that images and text have in common: `|A & B| / k`.

    Where fewer than `k` units answer to a modality, `k` is the larger number of the two; where none
    answers, the overlap is 0. Two independent sets have `k / D` in common on average.

    Args:
        image, text: `(D,)`, the mean absolute activations for each.
        fraction: float, see `top_units`.

    Returns:
        float in [0, 1].
    """
    a, b = top_units(image, fraction), top_units(text, fraction)
    larger = max(a.sum(), b.sum())
    return float((a & b).sum() / larger) if larger else 0.0


def rank_correlation(first, second):
    """Spearman's correlation: that of the ranks, where equal values share their mean rank.

    Returns:
        float in [-1, 1]; 0 where all values of one side are equal, for which it is undefined.
    """
    first, second = (_ranks(values) - (len(values) + 1) / 2 for values in (first, second))
    norms = np.sqrt((first @ first) * (second @ second))
    return float(np.clip(first @ second / norms, -1, 1)) if norms > 0 else 0.0


def co_activation(image, text):
    """Both numbers of every block.

    Args:
        image, text: `(blocks, D)`, the mean absolute activations for each.

    Returns:
        dict of `overlap` and `correlation`, float64 `(blocks,)` each.
    """
    pairs = list(zip(image, text, strict=True))
    return {
        "overlap": np.array([overlap(*pair) for pair in pairs]),
        "correlation": np.array([rank_correlation(*pair) for pair in pairs]),
    }


def _ranks(values):
    """Ranks from 1, float64; equal values share their mean rank."""
    _, groups, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[groups]
