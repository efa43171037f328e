"""How far images and text use the same hidden units of a block: two numbers, in NumPy."""

import numpy as np

TOP = 0.1  # of the units


def top_units(activations):
    """The units that respond most.

    Args:
        activations: `(D,)`, at least 0.

    Returns:
        bool `(D,)`: the `k = max(1, round(TOP * D))` units with the largest activations; of equal
        units, those with the smaller index. A unit whose activation is 0 does not respond and is
        never among them, so there may be fewer than `k`, or none.
    """
    activations = np.asarray(activations)
    k = max(1, round(TOP * activations.size))
    top = np.zeros(activations.size, bool)
    top[np.argsort(-activations, kind="stable")[:k]] = True
    return top & (activations > 0)


def overlap(image, text):
    """The share of the top units that images and text have in common: `|A & B| / k`.

    `k` is the size of the larger set; the overlap is 0 where both are empty. Two independent sets
    of `k` units have `k / D` in common on average.

    Args:
        image, text: `(D,)`, the mean absolute activations for each.

    Returns:
        float in [0, 1].
    """
    a, b = top_units(image), top_units(text)
    larger = max(a.sum(), b.sum())
    return float((a & b).sum() / larger) if larger else 0.0


def rank_correlation(first, second):
    """Spearman's rank correlation; equal values share their mean rank.

    Args:
        first, second: `(D,)`.

    Returns:
        float in [-1, 1]; 0 if all values of one side are equal, as it is then undefined.
    """
    first, second = (_ranks(values) - (len(values) + 1) / 2 for values in (first, second))
    norms = np.sqrt((first @ first) * (second @ second))
    return float(np.clip(first @ second / norms, -1, 1)) if norms > 0 else 0.0


def co_activation(image, text):
    """The overlap and the rank correlation of every block.

    Args:
        image, text: `(blocks, D)`, the mean absolute activations for each.

    Returns:
        dict of `overlap` and `correlation` to float64 `(blocks,)`.
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
