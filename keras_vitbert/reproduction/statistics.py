"""What a few seeds say: means, paired differences, and how often one was allowed to err.

Two rows are compared on the same seeds, by Student's t-test of the differences, with p-values
corrected for the number of comparisons by Holm's method (Scandinavian Journal of Statistics 6,
1979). The normal distribution of the differences is an assumption; with three seeds it cannot be
checked.
"""

import dataclasses
import math

import numpy as np

LEVEL = 0.05  # the probability that any of the differences told is one of the seeds alone


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: float.
        error: float, its standard error; NaN of one seed.
        count: int, seeds.
    """

    mean: float
    error: float
    count: int

    def __str__(self):
        if math.isnan(self.error):
            return f"{self.mean:.4f}"
        return f"{self.mean:.4f} ± {self.error:.4f}"


def estimate(values):
    """The mean of values of different seeds.

    Args:
        values: iterable of float, at least one.

    Returns:
        `Estimate`.
    """
    values = np.asarray(list(values), np.float64)
    count = len(values)
    error = values.std(ddof=1) / math.sqrt(count) if count > 1 else math.nan
    return Estimate(float(values.mean()), float(error), count)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Whether one row is above another.

    Attributes:
        above, below: str, the names of the rows; more of the metric is better.
        difference: `Estimate`, of the mean difference over the seeds that both have.
        p: float, two-sided and not corrected; NaN of fewer than two seeds.
    """

    above: str
    below: str
    difference: Estimate
    p: float


def compare(above, ours, below, theirs):
    """Compares two rows on their common seeds.

    Args:
        above, below: str, names of the rows.
        ours, theirs: dict of a seed to a value.

    Returns:
        `Comparison`.

    Raises:
        ValueError: they have no common seed.
    """
    from scipy import stats

    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        raise ValueError(f"{above} and {below} have no common seed")
    differences = np.array([ours[seed] - theirs[seed] for seed in seeds], np.float64)
    found = estimate(differences)
    if found.count < 2:
        p = math.nan
    elif found.error == 0:  # all alike, where the test divides 0 by 0
        p = 0.0 if found.mean else 1.0
    else:
        p = float(2 * stats.t.sf(abs(found.mean / found.error), found.count - 1))
    return Comparison(above, below, found, p)


def corrected(comparisons):
    """The p-values of comparisons, for as many as there are.

    Args:
        comparisons: list of `Comparison`.

    Returns:
        list of float, by Holm's method; NaN where a comparison has none, which is not counted.
    """
    known = [index for index, found in enumerate(comparisons) if not math.isnan(found.p)]
    ordered = sorted(known, key=lambda index: comparisons[index].p)
    values = [math.nan] * len(comparisons)
    largest = 0.0
    for rank, index in enumerate(ordered):
        largest = max(largest, min(1.0, (len(known) - rank) * comparisons[index].p))
        values[index] = largest
    return values


def claims(comparisons):
    """What may be said of comparisons that are told together: list of str, a sentence each."""
    told = []
    for found, p in zip(comparisons, corrected(comparisons), strict=True):
        d, n = found.difference, found.difference.count
        over = f"over {n} seed{'s' if n > 1 else ''}"
        if math.isnan(p):
            told.append(
                f"{found.above} and {found.below}: {d.mean:+.4f} {over}, which says nothing of "
                "other seeds"
            )
        elif p < LEVEL:
            first, second = found.above, found.below
            if d.mean < 0:
                first, second = second, first
            told.append(
                f"{first} above {second} by {abs(d.mean):.4f} ± {d.error:.4f} {over} (p = {p:.2g})"
            )
        else:
            told.append(
                f"{found.above} and {found.below}: no difference seen, {d} {over} (p = {p:.2g}); "
                + _needed(found)
            )
    return told


def _needed(found):
    """How small a difference these seeds would have shown, and how many this one would need."""
    from scipy import stats

    d = found.difference
    if d.error == 0 or d.mean == 0:
        return "more seeds are needed"
    shown = stats.t.ppf(1 - LEVEL / 2, d.count - 1) * d.error
    deviation = d.error * math.sqrt(d.count)
    count = d.count + 1
    while count < 1_000 and stats.t.ppf(1 - LEVEL / 2, count - 1) * deviation / math.sqrt(
        count
    ) > abs(d.mean):
        count += 1
    return f"seen would be {shown:.4f}, and this one perhaps with {count} seeds"
