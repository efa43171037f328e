"""`results.md`: tables with the paper's numbers beside ours, and the answers they give."""

import os

from keras_vitbert.inspection.co_activation import rank_correlation
from keras_vitbert.reproduction.cells import AVERAGE, HEADS, IMAGES, PROBE, TEXT
from keras_vitbert.reproduction.experiments import RAND
from keras_vitbert.reproduction.results import DIVERGED
from keras_vitbert.reproduction.statistics import LEVEL, claims, compare, corrected, deviation
from pipelines.text_tables import markdown_table


def page(experiments, results):
    """All tables, below a line on the runs behind them.

    Args:
        experiments: list of `keras_vitbert.reproduction.cells.Filled`.
        results: `keras_vitbert.reproduction.results.Results`.

    Returns:
        str, Markdown.
    """
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
    spreads = deviations(experiments)
    return "\n".join([*lines, *(section(filled, spreads) for filled in experiments)])


def deviations(experiments):
    """The error of the cells of what columns measure, estimated from all trained rows.

    Args:
        experiments: list of `keras_vitbert.reproduction.cells.Filled`.

    Returns:
        dict of what a column measures, see `Filled.measured`, to a
        `keras_vitbert.reproduction.statistics.Deviation`.
    """
    rows = {}  # a recipe counts once, whatever tables it is in
    for filled in (*experiments, *(one.pretraining for one in experiments if one.pretraining)):
        for place, row in enumerate(filled.experiment.rows):
            if row.recipe is not None and row.recipe.variant == RAND:
                continue
            for column, values in filled.values[place].items():
                known = rows.setdefault(filled.measured(column), {})
                known.setdefault(row.recipe or row.label, {}).update(values)
    return {measured: deviation(list(found.values())) for measured, found in rows.items()}


def section(filled, spreads):
    """A table, how well the order of its rows agrees with the paper's, and answers.

    Args:
        filled: `keras_vitbert.reproduction.cells.Filled`.
        spreads: dict, of `deviations`.

    Returns:
        str, Markdown.
    """
    experiment = filled.experiment
    lines = [f"## {experiment.title}", "", *_table(filled), ""]
    if filled.pretraining is not None and filled.pretraining.is_begun:
        lines += ["In pre-training:", "", *_table(filled.pretraining), ""]
    if paper := _paper_table(filled):
        lines += [_beside_the_paper(filled), "", *paper, ""]
    lines += _order(filled)
    lines += _trend(filled) if experiment.is_ordered else []
    lines += _answers(filled, spreads)
    return "\n".join(lines).rstrip() + "\n"


def _beside_the_paper(filled):
    """A caption of the second table, which says how far its numbers may be compared."""
    text = "The paper's numbers in per cent, and ours minus the paper's"
    tasks = {c for c in filled.columns if not c.startswith(PROBE)} - {TEXT, IMAGES, AVERAGE}
    known = set().union(*(row.paper for row in filled.experiment.rows))
    if filled.experiment.tasks and tasks - known:
        return f"{text}; these averages are of other tasks, so that only the order of rows counts:"
    return f"{text}:"


def _table(filled):
    rows = []
    for place, row in enumerate(filled.experiment.rows):
        cells = [_cell(filled.estimate(place, column)) for column in filled.columns]
        rows.append([*row.label, *cells, str(_seeds(filled, place))])
    heads = [HEADS.get(column, column) for column in filled.columns]
    return markdown_table([*filled.experiment.labels, *heads, "seeds"], rows).splitlines()


def _cell(found):
    return "" if found is None else str(found)


def _seeds(filled, place):
    """The least number of seeds in a cell of a row that is not empty."""
    counts = [len(filled.values[place][column]) for column in filled.columns]
    return min(filter(None, counts), default=0)


def _paper_table(filled):
    rows = filled.experiment.rows
    columns = [c for c in filled.columns if any(c in row.paper for row in rows)]
    if not columns:
        return []
    table = []
    for place, row in enumerate(rows):
        if not row.paper:
            continue
        cells = []
        for column in columns:
            found = filled.estimate(place, column)
            theirs = row.paper.get(column)
            if theirs is None:
                cells.append("")
            elif found is None:
                cells.append(f"{theirs:.1f}")
            else:
                cells.append(f"{theirs:.1f} ({100 * found.mean - theirs:+.1f})")
        table.append([*row.label, *cells])
    heads = [HEADS.get(column, column) for column in columns]
    return markdown_table([*filled.experiment.labels, *heads], table).splitlines()


def _order(filled):
    """Spearman's correlation with the paper's order of rows, for each column that both have."""
    told = []
    for column in filled.columns:
        pairs = _beside(filled, column, lambda row, column=column: row.paper.get(column))
        if len(pairs) > 2:
            value = rank_correlation(*zip(*pairs, strict=True))
            told.append(f"{HEADS.get(column, column)} {value:+.2f}")
    if not told:
        return []
    return [f"Rank correlation with the paper's order of the rows: {', '.join(told)}.", ""]


def _beside(filled, column, number_of):
    """The mean of each row in a column beside another number, where both are known: list of pairs.

    Args:
        filled: `keras_vitbert.reproduction.cells.Filled`.
        column: str.
        number_of: callable of a `Row`, which returns a number or None.
    """
    pairs = (
        (filled.estimate(place, column), number_of(row))
        for place, row in enumerate(filled.experiment.rows)
    )
    return [(found.mean, number) for found, number in pairs if None not in (found, number)]


def _trend(filled):
    """Spearman's correlation of each column with the number that rows are ordered by."""
    from scipy import stats

    told, ps = [], []
    for column in filled.columns:
        pairs = _beside(filled, column, lambda row: float(row.label[0]))
        if len(pairs) > 3:
            found = stats.spearmanr(*zip(*pairs, strict=True))
            told.append(f"{HEADS.get(column, column)} {found.statistic:+.2f}")
            ps.append(float(found.pvalue))
    if not told:
        return []
    parts = [f"{text} (p = {p:.2g})" for text, p in zip(told, corrected(ps), strict=True)]
    name = filled.experiment.labels[0]
    return [f"Rank correlation with `{name}`, p-values corrected by Holm: {', '.join(parts)}.", ""]


def _answers(filled, spreads):
    """The questions, each with the claims of the columns, corrected for all of them together."""
    columns = filled.asked

    def spread_of(column):
        return spreads[filled.measured(column)]

    asked, compared = [], []
    for question, *sides in filled.experiment.questions:
        for column in columns:
            rows = [
                [filled.values[filled.place(label)][column] for label in labels] for labels in sides
            ]
            if set.intersection(*(set(row) for side in rows for row in side)):
                above, below = map(_called, sides)
                asked.append((question, column))
                compared.append(compare(above, rows[0], below, rows[1], spread_of(column)))
    if not compared:
        return []
    freedom = ", ".join(f"{column} {spread_of(column).freedom}" for column in columns)
    count = f"{len(compared)} comparisons on the same seeds, with p-values corrected by Holm"
    if len(compared) == 1:
        count = "One comparison on the same seeds, with its p-value"
    lines = [
        f"{count}; below {LEVEL:g} counts as seen. "
        f"Degrees of freedom of the error, from all trained rows: {freedom}.",
        "",
    ]
    last = None
    for (question, column), claim in zip(asked, claims(compared), strict=True):
        if question != last:
            lines.append(f"- **{question}**")
            last = question
        lines.append(f"  - {column}: {claim}")
    return [*lines, ""]


def _called(labels):
    """What rows have in common, such as `magnitude` of `0.1, magnitude` and others.

    If nothing, all of them in brackets, for their mean.
    """
    common = [
        part for part in labels[0].split(", ") if all(part in label.split(", ") for label in labels)
    ]
    return ", ".join(common) or f"({', '.join(labels)})"
