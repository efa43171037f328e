"""Which hidden units of a block images and text use, and how far they are the same, in NumPy."""

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


def by_preference(image, text):
    """The units, from those that respond most to images to those that respond most to text.

    The order is that of `(image - text) / (image + text)`, which is the order of their ratio: it
    stays the same if one modality is stronger in all units. Of equal units, the one with the
    smaller index comes first.

    Args:
        image, text: `(D,)`.

    Returns:
        int `(D,)`, indices of units.
    """
    image, text = np.asarray(image, np.float64), np.asarray(text, np.float64)
    total = image + text
    preference = np.divide(image - text, total, out=np.zeros_like(total), where=total > 0)
    return np.argsort(-preference, kind="stable")


def scale_top(values):
    """The value of the brightest colour, which leaves out the few units far above all others.

    Args:
        values: array of any shape.

    Returns:
        float: the 99th percentile, or the largest value where that is 0. Values that are not finite
        count as 0.
    """
    values = np.where(np.isfinite(values), values, 0)
    return float(np.percentile(values, 99)) or float(np.max(values))


def _ranks(values):
    """Ranks from 1, float64; equal values share their mean rank."""
    _, groups, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[groups]
