"""`results.md`: tables with the paper's numbers beside ours, and the answers they give."""

import dataclasses
import os
from collections.abc import Iterable
from statistics import mean

from scipy import stats

from keras_vitbert.reproduction.results import DIVERGED, DONE, Results, run_name
from keras_vitbert.reproduction.scales import Task
from keras_vitbert.reproduction.statistics import (
    LEVEL,
    Deviation,
    Estimate,
    claims,
    compare,
    corrected,
    deviation,
    estimate,
)
from keras_vitbert.reproduction.tables import (
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
from pipelines.text_tables import markdown_table

PROBE = "probe: "  # begins the columns of frozen features
HEADS = {NSP: "NSP", MLM: "MLM", NATS: "MLM, nats", IC: "IC"}  # of columns with longer names


@dataclasses.dataclass(frozen=True)
class Filled:
    """A table with its numbers."""

    table: Table
    columns: tuple[str, ...]  # that are shown
    values: list[dict[str, dict[int, float]]]  # for each row by column and seed
    asked: tuple[str, ...]  # the columns that answer the questions
    pretraining: "Filled | None" = None  # the same rows in pre-training, if the columns are not
    averages: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)  # and of what

    def estimate(self, place: int, column: str) -> Estimate | None:
        """A cell, or None if nothing is known."""
        values = self.values[place][column]
        return estimate(values.values()) if values else None

    def measured(self, column: str) -> tuple[str, ...]:
        """What is measured in a column, whose name may mean other tasks elsewhere."""
        parts = self.averages.get(column)
        return sum(map(self.measured, parts), ()) if parts else (column,)

    @property
    def is_begun(self) -> bool:
        """Whether anything is known."""
        return any(seeds for row in self.values for seeds in row.values())


def fill(table: Table, units: dict, tasks: list[Task], seeds: Iterable[int]) -> Filled:
    """A table with the numbers of its runs.

    Args:
        table: its rows are pre-trained and, if there are tasks, fine-tuned and probed.
        units: see `Results`.
        tasks: their averages are as in the paper: of a modality, and of both averages.
        seeds: of all rows.
    """

    def found(row, kind, number_of, task=""):
        entries = {seed: units.get(run_name(kind, row.recipe, seed, task)) for seed in seeds}
        done = {seed: entry for seed, entry in entries.items() if entry}
        numbers = {s: number_of(entry) for s, entry in done.items() if entry["outcome"] == DONE}
        return {seed: number for seed, number in numbers.items() if number is not None}

    columns, values = (NSP, MLM, NATS, IC), []
    for row in table.rows:
        values.append(
            {c: found(row, "pretrain", lambda e, c=c: e["validation"].get(c)) for c in columns}
        )
        values[-1][MEAN] = _means(values[-1], (MLM, IC))
    pretraining = Filled(table, (*columns, MEAN), values, (MEAN,))
    if not table.tasks:
        return pretraining

    averages = {
        before + kind: tuple(before + task.name for task in tasks if task.kind == kind)
        for kind in (TEXT, IMAGES)
        for before in ("", PROBE)
    } | {AVERAGE: (TEXT, IMAGES)}
    values = []
    for row in table.rows:
        values.append({})
        for task in tasks:
            for before, kind in (("", "finetune"), (PROBE, "probe")):
                numbers = found(row, kind, lambda entry: entry["value"], task.name)
                values[-1][before + task.name] = numbers
        for column, parts in averages.items():
            values[-1][column] = _means(values[-1], parts)
    probes = (PROBE + TEXT, PROBE + IMAGES)
    columns = (*averages[TEXT], TEXT, *averages[IMAGES], IMAGES, AVERAGE, *probes)
    return Filled(table, columns, values, (TEXT, IMAGES, *probes), pretraining, averages)


def fill_depth(units: dict, seeds: Iterable[int]) -> Filled | None:
    """How far the modalities share each block of `vitbert`; None if no run measured activations."""
    entries = {seed: units.get(run_name("pretrain", FULL, seed), {}) for seed in seeds}
    entries = {seed: entry for seed, entry in entries.items() if entry.get("co_activation")}
    if not entries:
        return None
    columns = ("overlap", "correlation", "cleared")
    table = by_depth(len(next(iter(entries.values()))["co_activation"]["overlap"]))
    values = [{column: {} for column in columns} for _ in table.rows]
    for seed, entry in entries.items():
        for place, row in enumerate(values):
            for column in columns[:2]:
                row[column][seed] = entry["co_activation"][column][place]
            row["cleared"][seed] = entry["mask"]["sparsity_per_block"][f"block_{place}"]
    return Filled(table, columns, values, columns)


def _means(row, columns):
    """The mean of several columns, for each seed that all of them have."""
    cells = [row[column] for column in columns]
    seeds = set(cells[0]).intersection(*cells[1:]) if cells else ()
    return {seed: mean(cell[seed] for cell in cells) for seed in sorted(seeds)}


def page(filled: list[Filled], results: Results) -> str:
    """All tables, below a line on the runs behind them."""
    entries = results.units.values()
    commits = sorted({entry["commit"] or "unknown" for entry in entries})
    hours = sum(entry.get("seconds", 0) for entry in entries) / 3600
    diverged = sum(entry["outcome"] == DIVERGED for entry in entries)
    name = os.path.basename(results.path)
    lines = [
        f"# The paper's experiments at the scale `{results.scale}`",
        "",
        f"Written by `python -m keras_vitbert.reproduce --scale={results.scale}` from `{name}`, "
        f"which has the command of each of {len(entries)} runs: {hours:.1f} hours of training, "
        f"{diverged} diverged, by {'commit' if len(commits) == 1 else 'commits'} "
        f"{', '.join(commit[:7] + commit[40:] for commit in commits)}.",
        "",
    ]
    spreads = deviations(filled)
    return "\n".join([*lines, *(section(one, spreads) for one in filled)])


def deviations(filled: list[Filled]) -> dict[tuple[str, ...], Deviation]:
    """The error of a cell by what it measures (`Filled.measured`), from all trained rows."""
    rows = {}  # a recipe counts once, whatever tables it is in
    for one in [*filled, *(one.pretraining for one in filled if one.pretraining)]:
        for row, cells in zip(one.table.rows, one.values, strict=True):
            if row.recipe is not None and row.recipe.variant == RAND:
                continue
            for column, values in cells.items():
                known = rows.setdefault(one.measured(column), {})
                known.setdefault(row.recipe or row.name, {}).update(values)
    return {measured: deviation(found.values()) for measured, found in rows.items()}


def section(filled: Filled, spreads: dict[tuple[str, ...], Deviation]) -> str:
    """A table, how well the order of its rows agrees with the paper's, and answers.

    Args:
        filled: the table.
        spreads: of `deviations`.
    """
    lines = [f"## {filled.table.title}", "", *_table(filled), ""]
    if filled.pretraining is not None and filled.pretraining.is_begun:
        lines += ["In pre-training:", "", *_table(filled.pretraining), ""]
    lines += _paper(filled)
    correlations = _correlations(filled, lambda row, column: row.paper.get(column))
    if order := ", ".join(f"{head} {found.statistic:+.2f}" for head, found in correlations):
        lines += [f"Rank correlation with the paper's order of the rows: {order}.", ""]
    if filled.table.is_ordered:
        lines += _trend(filled)
    return "\n".join(lines + _answers(filled, spreads)).rstrip() + "\n"


def _head(column):
    return HEADS.get(column, column)


def _table(filled):
    rows = []
    for place, row in enumerate(filled.table.rows):
        cells = [filled.estimate(place, column) for column in filled.columns]
        least = min((cell.seeds for cell in cells if cell), default=0)
        rows.append([*row.label, *("" if cell is None else cell for cell in cells), least])
    heads = [*filled.table.heads, *map(_head, filled.columns), "seeds"]
    return markdown_table(heads, rows).splitlines()


def _paper(filled):
    """The paper's numbers, and ours minus these; says how far both may be compared."""
    table, rows = filled.table, []
    columns = [c for c in filled.columns if any(c in row.paper for row in table.rows)]
    if not columns:
        return []
    for place, row in enumerate(table.rows):
        cells = []
        for column in columns:
            theirs, ours = row.paper.get(column), filled.estimate(place, column)
            cell = "" if theirs is None else f"{theirs:.1f}"
            cells.append(cell + (f" ({100 * ours.mean - theirs:+.1f})" if cell and ours else ""))
        rows.append([*row.label, *cells])
    caption = "The paper's numbers in per cent, and ours minus the paper's"
    tasks = {name for kind in (TEXT, IMAGES) for name in filled.averages.get(kind, ())}
    if tasks - set().union(*(row.paper for row in table.rows)):
        caption += "; these averages are of other tasks, so that only the order of rows counts"
    return [f"{caption}:", "", markdown_table([*table.heads, *map(_head, columns)], rows), ""]


def _correlations(filled, number_of, least=3):
    """Spearman's correlation of our rows with other numbers, for columns that have both."""
    found = []
    for column in filled.columns:
        pairs = [
            (ours.mean, number)
            for place, row in enumerate(filled.table.rows)
            if (ours := filled.estimate(place, column))
            and (number := number_of(row, column)) is not None
        ]
        if len(pairs) >= least and len({ours for ours, _ in pairs}) > 1:  # else it is not defined
            found.append((_head(column), stats.spearmanr(*zip(*pairs, strict=True))))
    return found


def _trend(filled):
    """The correlation of each column with the number that rows are ordered by."""
    found = _correlations(filled, lambda row, column: float(row.label[0]), least=4)
    ps = corrected([float(one.pvalue) for _, one in found])
    parts = [
        f"{head} {one.statistic:+.2f} (p = {p:.2g})"
        for (head, one), p in zip(found, ps, strict=True)
    ]
    about = f"Rank correlation with `{filled.table.heads[0]}`, p-values corrected by Holm"
    return [f"{about}: {', '.join(parts)}.", ""] if parts else []


def _answers(filled, spreads):
    """The questions, each with the claims of the columns, corrected for all of them together."""
    rows = dict(zip((row.name for row in filled.table.rows), filled.values, strict=True))
    spread_of = {column: spreads[filled.measured(column)] for column in filled.asked}
    asked, compared = [], []
    for question, *sides in filled.table.questions:
        for column, spread in spread_of.items():
            ours, theirs = ([rows[name][column] for name in names] for names in sides)
            if set.intersection(*map(set, ours + theirs)):
                above, below = map(_called, sides)
                asked.append((question, column))
                compared.append(compare(above, ours, below, theirs, spread))
    if not compared:
        return []
    count = f"{len(compared)} comparisons on the same seeds, with p-values corrected by Holm"
    if len(compared) == 1:
        count = "One comparison on the same seeds, with its p-value"
    freedom = ", ".join(f"{column} {spread.freedom}" for column, spread in spread_of.items())
    lines = [
        f"{count}; below {LEVEL:g} counts as seen. "
        f"Degrees of freedom of the error, from all trained rows: {freedom}.",
        "",
    ]
    last = None
    for (question, column), claim in zip(asked, claims(compared), strict=True):
        lines += [f"- **{question}**"] if question != last else []
        lines.append(f"  - {column}: {claim}")
        last = question
    return [*lines, ""]


def _called(names):
    """What rows have in common, such as `magnitude` of `0.1, magnitude` and others.

    If nothing, all of them in brackets, for their mean.
    """
    parts = [name.split(", ") for name in names]
    common = [part for part in parts[0] if all(part in others for others in parts)]
    return ", ".join(common) or f"({', '.join(names)})"
