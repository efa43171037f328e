"""What a few seeds say: means, differences on the same seeds, and corrections for many comparisons.

A cell is modelled as an effect of its row, an effect of its seed, and an error with the same
variance in all rows of a column: a two-way layout in randomised blocks (Fisher, The Design of
Experiments, 1935). So the error is estimated from all rows together, where each row alone has a few
seeds. With just two rows this is Student's paired t-test. p-values are corrected for the number of
comparisons by Holm's method (Scandinavian Journal of Statistics 6, 1979). That errors are normal
and have the same variance is an assumption.
"""

import dataclasses
import math

import numpy as np

LEVEL = 0.05  # the probability that any of the reported differences comes from the seeds alone
_MOST_SEEDS = 1_000
_ROUNDING = 1e-12  # relative to a value


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over seeds, or a difference of such.

    Attributes:
        mean: float.
        error: float, its standard error; NaN where that is not known, as with one seed.
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
class Deviation:
    """The error of a cell, after the effects of its row and its seed.

    Attributes:
        value: float, a standard deviation; NaN where nothing is left to estimate it from.
        freedom: int, its degrees of freedom.
    """

    value: float
    freedom: int


def deviation(rows):
    """The error of the cells of rows, not all of which need to have all seeds.

    Args:
        rows: list of dict of a seed to a value, of one metric.

    Returns:
        `Deviation`.
    """
    cells = [(place, seed, value) for place, row in enumerate(rows) for seed, value in row.items()]
    seeds = sorted({seed for _, seed, _ in cells})
    design = np.zeros((len(cells), len(rows) + len(seeds)))
    for line, (place, seed, _) in enumerate(cells):
        design[line, place] = design[line, len(rows) + seeds.index(seed)] = 1.0
    values = np.array([value for *_, value in cells], np.float64)
    fitted, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    freedom = len(cells) - int(rank)
    if not freedom:
        return Deviation(math.nan, 0)
    residual = values - design @ fitted
    value = math.sqrt(residual @ residual / freedom)
    return Deviation(value if value > _ROUNDING * np.abs(values).max() else 0.0, freedom)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Whether rows are above others.

    Attributes:
        above, below: str, their names; more of the metric is better.
        difference: `Estimate`, of the mean difference over the seeds that all have.
        freedom: int, degrees of freedom of its standard error.
        p: float, two-sided and not corrected; NaN where the deviation is not known.
    """

    above: str
    below: str
    difference: Estimate
    freedom: int
    p: float


def compare(above, ours, below, theirs, spread):
    """Compares a row, or the mean of several, with others on their common seeds.

    Args:
        above, below: str, their names.
        ours, theirs: list of rows, each a dict of a seed to a value.
        spread: `Deviation` of the metric.

    Returns:
        `Comparison`.

    Raises:
        ValueError: they have no common seed.
    """
    from scipy import stats

    seeds = sorted(set.intersection(*(set(row) for row in (*ours, *theirs))))
    if not seeds:
        raise ValueError(f"{above} and {below} have no common seed")
    means = [np.mean([[row[seed] for seed in seeds] for row in side]) for side in (ours, theirs)]
    mean = float(means[0] - means[1])
    error = spread.value * math.sqrt((1 / len(ours) + 1 / len(theirs)) / len(seeds))
    if not spread.freedom:
        p = math.nan
    elif error == 0:  # all alike, where the test divides 0 by 0
        p = 0.0 if mean else 1.0
    else:
        p = float(2 * stats.t.sf(abs(mean / error), spread.freedom))
    return Comparison(above, below, Estimate(mean, error, len(seeds)), spread.freedom, p)


def corrected(values):
    """p-values corrected for their number by Holm's method.

    Args:
        values: list of float; NaN where there is none, which is not counted.

    Returns:
        list of float.
    """
    known = [index for index, value in enumerate(values) if not math.isnan(value)]
    found = [math.nan] * len(values)
    largest = 0.0
    for rank, index in enumerate(sorted(known, key=lambda index: values[index])):
        largest = max(largest, min(1.0, (len(known) - rank) * values[index]))
        found[index] = largest
    return found


def claims(comparisons):
    """What may be said of comparisons that are reported together: list of str, a sentence each."""
    told = []
    ps = corrected([found.p for found in comparisons])
    for found, p in zip(comparisons, ps, strict=True):
        d, n = found.difference, found.difference.count
        over = f"over {n} seed{'s' if n > 1 else ''}"
        if math.isnan(p):
            told.append(
                f"{found.above} minus {found.below}: {d.mean:+.4f} {over}, which says nothing "
                "about other seeds"
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
                f"{found.above} minus {found.below}: no difference seen, {d} {over} (p = {p:.2g}); "
                + _needed(found)
            )
    return told


def _needed(found):
    """How small a difference these seeds could show, and how many seeds this one would need."""
    from scipy import stats

    d = found.difference
    if d.error == 0 or d.mean == 0:
        return "more seeds are needed"
    shown = stats.t.ppf(1 - LEVEL / 2, found.freedom) * d.error
    if abs(d.mean) >= shown:
        return "uncorrected, it would be seen"
    count = math.ceil(d.count * (shown / d.mean) ** 2)
    seeds = f"{count:,}" if count < _MOST_SEEDS else f"more than {_MOST_SEEDS:,}"
    return f"uncorrected, {shown:.4f} would be seen, and this one perhaps with {seeds} seeds"
