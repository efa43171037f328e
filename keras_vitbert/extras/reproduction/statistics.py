"""From results of jobs to table cells, and what a few seeds say of their rows.

A cell is modelled as an effect of its row, an effect of its seed, and an error with the same
variance in all rows of a column: a two-way layout in randomised blocks (Fisher, The Design of
Experiments, 1935). So the error is estimated from all rows together, where each row alone has a few
seeds. With just two rows this is Student's paired t-test. p-values are corrected for the number of
comparisons by Holm's method (Scandinavian Journal of Statistics 6, 1979). That errors are normal
and have the same variance is an assumption.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from statistics import mean
from typing import NamedTuple

import numpy as np
from scipy import stats

from keras_vitbert.extras.reproduction.plan import Plan, Task, job_name
from keras_vitbert.extras.reproduction.running import DONE
from keras_vitbert.extras.reproduction.tables import (
    AVERAGE,
    FULL,
    IC,
    IMAGES,
    MEAN,
    MLM,
    NATS,
    NSP,
    RAND,
    TEXT,
    Table,
    by_depth,
)

LEVEL = 0.05  # the probability that any of the reported differences comes from the seeds alone
_MOST_SEEDS = 1_000
_ROUNDING = 1e-12  # relative to a value


class Estimate(NamedTuple):
    """A mean over seeds, or a difference of such."""

    mean: float
    error: float  # its standard error; NaN where that is not known, as with one seed
    seeds: int

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if math.isnan(self.error) else f" ± {self.error:.4f}")


def estimate(values: Iterable[float]) -> Estimate:
    """The mean of values of different seeds, at least one."""
    values = np.array([*values], np.float64)
    error = stats.sem(values) if len(values) > 1 else math.nan
    return Estimate(float(values.mean()), float(error), len(values))


class Deviation(NamedTuple):
    """The error of a table cell, after the effects of its row and its seed."""

    value: float  # a standard deviation; NaN where nothing is left to estimate it from
    freedom: int  # its degrees of freedom


def deviation(rows: Iterable[dict[int, float]]) -> Deviation:
    """The error of rows, each a value by seed; not all need to have all seeds."""
    entries = [(place, seed, x) for place, row in enumerate(rows) for seed, x in row.items()]
    places, seeds, values = np.array(entries, np.float64).reshape(-1, 3).T
    # A column of zeros and ones for each row and for each seed.
    effects = [labels[:, None] == np.unique(labels) for labels in (places, seeds)]
    design = np.concatenate(effects, axis=1).astype(np.float64)
    fitted, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    freedom = len(entries) - int(rank)
    if not freedom:
        return Deviation(math.nan, 0)
    value = float(np.linalg.norm(values - design @ fitted)) / math.sqrt(freedom)
    return Deviation(value if value > _ROUNDING * np.abs(values).max() else 0.0, freedom)


PROBE = "probe: "  # begins the columns of frozen features
PRETRAINING = (NSP, MLM, NATS, IC, MEAN)  # the columns of what pre-training measures

TableCells = dict[str, dict[int, float]]  # of a row: by column, a number for each seed


@dataclasses.dataclass(frozen=True)
class Filled:
    """A table with its numbers."""

    table: Table
    columns: tuple[str, ...]  # that are shown
    values: list[TableCells]  # for each row
    asked: tuple[str, ...]  # the columns that answer the questions
    averages: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)  # and of what

    def estimate(self, place: int, column: str) -> Estimate | None:
        """A cell, or None if nothing is known."""
        values = self.values[place][column]
        return estimate(values.values()) if values else None

    def measured(self, column: str) -> tuple[str, ...]:
        """What is measured in a column, whose name may mean other tasks elsewhere."""
        averaged = self.averages.get(column)
        return sum(map(self.measured, averaged), ()) if averaged else (column,)

    def knows(self, columns: Iterable[str]) -> bool:
        """Whether anything is known of some columns."""
        return any(row.get(column) for row in self.values for column in columns)


def fill(
    table: Table, jobs: dict[str, dict], tasks: Sequence[Task], seeds: Iterable[int]
) -> Filled:
    """A table with the numbers of its jobs.

    Its rows are pre-trained and, if there are tasks, fine-tuned and perhaps probed. Averages of
    tasks are the paper's: of a modality, and of both averages.
    """
    sources = dict.fromkeys((NSP, MLM, NATS, IC), ("pretrain", ""))
    averages: dict[str, tuple[str, ...]] = {MEAN: (MLM, IC)}
    columns, asked = PRETRAINING, (MEAN,)
    if not table.averaged:
        asked = columns = tuple(task.name for task in tasks)
        sources |= {name: ("finetune", name) for name in asked}
    elif tasks:
        for before, kind in (("", "finetune"), (PROBE, "probe")):
            sources |= {before + task.name: (kind, task.name) for task in tasks}
            for modality in (TEXT, IMAGES):
                names = tuple(before + task.name for task in tasks if task.kind == modality)
                averages[before + modality] = names
        averages[AVERAGE] = (TEXT, IMAGES)
        asked = (TEXT, IMAGES, PROBE + TEXT, PROBE + IMAGES)
        columns = (*averages[TEXT], TEXT, *averages[IMAGES], IMAGES, AVERAGE, *asked[2:])
    values = []
    for row in table.rows:
        cells: TableCells = {column: {} for column in sources}
        for column, (kind, task) in sources.items():
            for seed in seeds:
                entry = jobs.get(job_name(kind, row.recipe, seed, task), {})
                if entry.get("outcome") == DONE:
                    number = entry["value"] if task else entry["validation"].get(column)
                    cells[column] |= {} if number is None else {seed: number}
        for column, averaged in averages.items():  # for each seed that all of them have
            known = [cells[name] for name in averaged]
            common = [seed for seed in seeds if known and all(seed in cell for cell in known)]
            cells[column] = {seed: mean(cell[seed] for cell in known) for seed in common}
        values.append(cells)
    return Filled(table, columns, values, asked, averages)


def fill_depth(jobs: dict[str, dict], seeds: Iterable[int]) -> Filled | None:
    """How far the modalities share each block of `vitbert`; None if no job measured activations."""
    entries = {seed: jobs.get(job_name("pretrain", FULL, seed), {}) for seed in seeds}
    entries = {seed: entry for seed, entry in entries.items() if entry.get("co_activation")}
    if not entries:
        return None
    table = by_depth(len(next(iter(entries.values()))["co_activation"]["overlap"]))
    columns = ("overlap", "correlation", "cleared")
    values: list[TableCells] = [{column: {} for column in columns} for _ in table.rows]
    for seed, entry in entries.items():
        for block, row in enumerate(values):
            for column in columns[:2]:
                row[column][seed] = entry["co_activation"][column][block]
            row["cleared"][seed] = entry["mask"]["sparsity_per_block"][f"block_{block}"]
    return Filled(table, columns, values, columns)


def fill_all(plan: Plan, jobs: dict[str, dict]) -> list[Filled]:
    """The tables that were asked for, and all others that have results."""
    filled = [
        fill(table, jobs, plan.scale.tasks_of(table), plan.seeds(name))
        for name, table in plan.tables.items()
    ]
    shown = [one for one in filled if one.table.name in plan.asked or one.knows(one.columns)]
    depth = fill_depth(jobs, max(map(plan.seeds, plan.tables), key=len))
    return [*shown, *([depth] if depth else [])]


def deviations(filled: list[Filled]) -> dict[tuple[str, ...], Deviation]:
    """The error of a table cell by its measure (`Filled.measured`), from all trained rows."""
    rows: dict[tuple[str, ...], dict] = {}  # a recipe counts once, whatever tables it is in
    # Rows of a table without questions may repeat one pre-training.
    for one in (one for one in filled if one.table.questions):
        for row, cells in zip(one.table.rows, one.values, strict=True):
            if row.recipe.variant == RAND:
                continue
            for column, values in cells.items():
                known = rows.setdefault(one.measured(column), {})
                known.setdefault(row.recipe, {}).update(values)
    return {measured: deviation(of_recipes.values()) for measured, of_recipes in rows.items()}


class Comparison(NamedTuple):
    """Whether rows are above others; more of the metric is better."""

    above: str
    below: str
    difference: Estimate  # of the mean difference over the seeds that all have
    freedom: int  # degrees of freedom of its standard error
    p: float  # two-sided and not corrected; NaN where the deviation is not known


def compare(
    above: str, ours: list[dict], below: str, theirs: list[dict], spread: Deviation
) -> Comparison:
    """Compares a row, each a value by seed, or the mean of several, on their common seeds.

    `spread` is the error of the metric. There must be a common seed.
    """
    seeds = sorted(set.intersection(*(set(row) for row in (*ours, *theirs))))
    means = [np.mean([[row[seed] for seed in seeds] for row in side]) for side in (ours, theirs)]
    mean = float(means[0] - means[1])
    error = spread.value * math.sqrt((1 / len(ours) + 1 / len(theirs)) / len(seeds))
    if error == 0:  # all alike, where the test divides 0 by 0
        p = 0.0 if mean else 1.0
    else:
        p = float(2 * stats.t.sf(abs(mean / error), spread.freedom))
    return Comparison(above, below, Estimate(mean, error, len(seeds)), spread.freedom, p)


def corrected(values: list[float]) -> list[float]:
    """p-values corrected for their number by Holm's method; NaN is not counted and stays."""
    order = np.argsort(values)  # NaN is last
    known = int(np.sum(~np.isnan(values)))
    times = np.array(values)[order] * (known - np.arange(len(values)))
    result = np.empty(len(values))
    result[order] = np.minimum(np.maximum.accumulate(times), 1.0)
    return result.tolist()


def claims(comparisons: list[Comparison]) -> list[str]:
    """What may be said of comparisons that are reported together, a sentence each."""
    sentences = []
    ps = corrected([comparison.p for comparison in comparisons])
    for (above, below, difference, freedom, _), p in zip(comparisons, ps, strict=True):
        mean, error, seeds = difference
        over = f"over {seeds} seed{'s' if seeds > 1 else ''}"
        if math.isnan(p):
            sentences.append(
                f"{above} minus {below}: {mean:+.4f} {over}, which says nothing about other seeds"
            )
        elif p < LEVEL:
            first, second = (below, above) if mean < 0 else (above, below)
            sentences.append(
                f"{first} above {second} by {abs(mean):.4f} ± {error:.4f} {over} (p = {p:.2g})"
            )
        else:
            sentences.append(
                f"{above} minus {below}: no difference seen, {difference} {over} (p = {p:.2g}); "
                + _needed(difference, freedom)
            )
    return sentences


def _needed(difference: Estimate, freedom: int) -> str:
    """How small a difference these seeds could show, and how many seeds this one would need."""
    mean, error, seeds = difference
    if error == 0 or mean == 0:
        return "more seeds are needed"
    shown = stats.t.ppf(1 - LEVEL / 2, freedom) * error
    if abs(mean) >= shown:
        return "uncorrected, it would be seen"
    count = math.ceil(seeds * (shown / mean) ** 2)
    many = f"{count:,}" if count < _MOST_SEEDS else f"more than {_MOST_SEEDS:,}"
    return f"uncorrected, {shown:.4f} would be seen, and this one perhaps with {many} seeds"
