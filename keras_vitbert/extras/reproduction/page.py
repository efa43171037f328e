"""`results.md`: tables with the paper's numbers beside ours, what they say, and their pictures."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from keras_vitbert.extras.reproduction.plan import Plan
from keras_vitbert.extras.reproduction.running import DIVERGED, Results
from keras_vitbert.extras.reproduction.statistics import (
    LEVEL,
    PRETRAINING,
    Deviation,
    Filled,
    claims,
    compare,
    corrected,
    deviations,
    estimate,
    fill_all,
)
from keras_vitbert.extras.reproduction.tables import IC, IMAGES, MLM, NATS, NSP, TEXT, Row
from keras_vitbert.inspection.drawing import FAINT, PAGE, PRINT, encoded, new_figure, shades, style
from pipelines.files import write_atomically
from pipelines.status import say
from pipelines.text_tables import markdown_table

_NOTE = "means over seeds, with standard errors; small points are seeds"
_HEADS = {NSP: "NSP", MLM: "MLM", NATS: "MLM, nats", IC: "IC"}  # of columns with longer names


def head_of(column: str) -> str:
    """What stands above a column."""
    return _HEADS.get(column, column)


def write_page(plan: Plan, results: Results) -> None:
    """Writes the page of all results, and its pictures, beside the file of results."""
    filled, stem = fill_all(plan, results.jobs), os.path.splitext(results.path)[0]
    write_atomically(f"{stem}.md", page(filled, results))
    for one in filled:
        if one.knows(one.columns):
            with style():
                figure = table_figure(one)
                for kind in ("png", "svg"):
                    write_atomically(f"{stem}-{one.table.name}.{kind}", encoded(figure, kind))
    say(f"{stem}.md and its pictures are written")


def page(filled: list[Filled], results: Results) -> str:
    """All tables, below a line on the runs behind them."""
    entries = results.jobs.values()
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


def section(filled: Filled, spreads: dict[tuple[str, ...], Deviation]) -> str:
    """A table, how well the order of its rows agrees with the paper's, and answers."""
    lines = [f"## {filled.table.title}", "", _table(filled, filled.columns), ""]
    if filled.columns != PRETRAINING and filled.knows(PRETRAINING):
        lines += ["In pre-training:", "", _table(filled, PRETRAINING), ""]
    lines += _paper(filled)
    correlations = _correlations(filled, lambda row, column: row.paper.get(column))
    if order := ", ".join(f"{head} {rank:+.2f}" for head, rank, _ in correlations):
        lines += [f"Rank correlation with the paper's order of the rows: {order}.", ""]
    if filled.table.is_ordered:
        lines += _trend(filled)
    return "\n".join(lines + _answers(filled, spreads)).rstrip() + "\n"


def _table(filled: Filled, columns: Sequence[str]) -> str:
    rows = []
    for place, row in enumerate(filled.table.rows):
        cells = [filled.estimate(place, column) for column in columns]
        counts = sorted({cell.seeds for cell in cells if cell}) or [0]
        seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
        rows.append([*row.label, *("" if cell is None else cell for cell in cells), seeds])
    return markdown_table([*filled.table.heads, *map(head_of, columns), "seeds"], rows)


def _paper(filled: Filled) -> list[str]:
    """The paper's numbers, and ours minus these; says how far both may be compared."""
    table, rows = filled.table, []
    columns = [c for c in filled.columns if any(c in row.paper for row in table.rows)]
    if not columns:
        return []
    for place, row in enumerate(table.rows):
        cells = []
        for column in columns:
            theirs, ours = row.paper.get(column), filled.estimate(place, column)
            cell = ""
            if theirs is not None:
                cell = f"{theirs:.1f}" + (f" ({100 * ours.mean - theirs:+.1f})" if ours else "")
            cells.append(cell)
        rows.append([*row.label, *cells])
    caption = "The paper's numbers in per cent, and ours minus the paper's"
    tasks = {name for kind in (TEXT, IMAGES) for name in filled.averages.get(kind, ())}
    if tasks - set().union(*(row.paper for row in table.rows)):
        caption += "; these averages are of other tasks, so that only the order of rows counts"
    return [f"{caption}:", "", markdown_table([*table.heads, *map(head_of, columns)], rows), ""]


def _correlations(
    filled: Filled, number_of: Callable[[Row, str], float | None], least: int = 3
) -> list[tuple[str, float, float]]:
    """Spearman's correlation of our rows with other numbers: heads of columns, rho and p."""
    correlations = []
    for column in filled.columns:
        pairs = [
            (ours.mean, number)
            for place, row in enumerate(filled.table.rows)
            if (ours := filled.estimate(place, column))
            and (number := number_of(row, column)) is not None
        ]
        if len(pairs) >= least and len({ours for ours, _ in pairs}) > 1:  # else it is not defined
            both: Any = stats.spearmanr(pairs)
            correlations.append((head_of(column), float(both[0]), float(both[1])))
    return correlations


def _trend(filled: Filled) -> list[str]:
    """The correlation of each column with the number that rows are ordered by."""
    correlations = _correlations(filled, lambda row, column: float(row.label[0]), least=4)
    ps = corrected([p for *_, p in correlations])
    texts = [
        f"{head} {rank:+.2f} (p = {p:.2g})"
        for (head, rank, _), p in zip(correlations, ps, strict=True)
    ]
    about = f"Rank correlation with `{filled.table.heads[0]}`, p-values corrected by Holm"
    return [f"{about}: {', '.join(texts)}.", ""] if texts else []


def _answers(filled: Filled, spreads: dict[tuple[str, ...], Deviation]) -> list[str]:
    """The questions, each with the claims of the columns, corrected for all of them together."""
    if not filled.table.questions:
        return []
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


def _called(names: list[str]) -> str:
    """The common labels of rows, such as `magnitude` of `0.1, magnitude` and others, or all names.

    All names, for the rows' mean, are in brackets.
    """
    labels = [name.split(", ") for name in names]
    common = [label for label in labels[0] if all(label in others for others in labels)]
    return ", ".join(common) or f"({', '.join(names)})"


def table_figure(filled: Filled) -> Figure:
    """A table's numbers of text and images, or of pre-training: a line per row, the first on top.

    Figure 2 has curves over the mask ratio.
    """
    table = filled.table
    columns = [c for c in (TEXT, IMAGES) if c in filled.columns] or filled.columns[:3]
    is_curve = table.name == "figure2"
    shown = [place for place, row in enumerate(filled.values) if any(row[c] for c in columns)]
    height = 2.6 if is_curve else 0.7 + 0.18 * len(shown)
    figure = new_figure(PAGE, height, table.title, _NOTE, PRINT)
    panels = figure.subplots(1, len(columns), sharey=not is_curve, squeeze=False)[0]
    for axes, column in zip(panels, columns, strict=True):
        axes.set(title=head_of(column), label=column)
        if is_curve:
            kinds = dict.fromkeys(row.label[1] for row in table.rows)
            for kind, colour in zip(kinds, shades(3)[:2], strict=True):
                of_kind = [place for place in shown if table.rows[place].label[1] == kind]
                rows = {float(table.rows[place].label[0]): place for place in of_kind}
                _points(axes, filled, column, rows, fmt="o-", color=colour, label=kind)
            axes.set_xlabel("mask ratio")
            axes.legend()
        else:
            _points(axes, filled, column, dict(enumerate(shown)), True, fmt="o", color=shades(3)[0])
            axes.set_yticks(range(len(shown)), [table.rows[place].name for place in shown])
            axes.set_ylim(len(shown) - 0.5, -0.5)
            axes.grid(axis="x", linewidth=0.25)
    return figure


def _points(
    axes: Axes,
    filled: Filled,
    column: str,
    rows: dict[float, int],
    across: bool = False,
    **options: Any,
) -> None:
    """Means with their errors, and the seeds, of rows by their place on the other axis."""
    rows = {at: place for at, place in rows.items() if filled.values[place][column]}
    for at, place in rows.items():
        seeds = [*filled.values[place][column].values()]
        pair = (seeds, [at] * len(seeds)) if across else ([at] * len(seeds), seeds)
        axes.plot(*pair, ".", color=FAINT, markersize=2)
    estimates = [estimate(filled.values[place][column].values()) for place in rows.values()]
    means, errors = [e.mean for e in estimates], np.nan_to_num([e.error for e in estimates])
    pair = (means, [*rows]) if across else ([*rows], means)
    axes.errorbar(*pair, **{"xerr" if across else "yerr": errors}, **options)
