"""Tables as pictures: one line per row, or a curve over mask ratios as in Figure 2."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from keras_vitbert.reproduction.cells import Filled, head_of
from keras_vitbert.reproduction.tables import IMAGES, TEXT

_NOTE = "means over seeds, with standard errors; small points are seeds"
_COLOURS = ("#440154", "#21918c")  # of viridis
_STYLE = {
    "axes.linewidth": 0.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "font.size": 7,
    "axes.titlesize": 7,
    "lines.linewidth": 1,
    "svg.fonttype": "none",  # letters stay letters
    "text.parse_math": False,  # names may contain a $
}


def draw(filled: Filled, stem: str) -> None:
    """Writes STEM.png and STEM.svg: text and images, or what pre-training measures."""
    table = filled.table
    columns = [c for c in (TEXT, IMAGES) if c in filled.columns] or filled.columns[:3]
    is_curve = table.name == "figure2"
    shown = [place for place, row in enumerate(filled.values) if any(row[c] for c in columns)]
    with matplotlib.rc_context(_STYLE):
        height = 2.6 if is_curve else 0.7 + 0.18 * len(shown)
        figure = Figure((6.9, height), dpi=300, layout="constrained")
        figure.suptitle(table.title, x=0.01, ha="left", weight="bold", size=8)
        figure.supxlabel(_NOTE, x=0.01, ha="left", size=6)
        panels = figure.subplots(1, len(columns), sharey=not is_curve, squeeze=False)[0]
        for axes, column in zip(panels, columns, strict=True):
            axes.set_title(head_of(column))
            axes.set_label(column)
            (_curves if is_curve else _lines)(axes, filled, column, shown)
        for ending in ("png", "svg"):
            figure.savefig(f"{stem}.{ending}")


def _lines(axes, filled, column, shown):
    """A line for each row, the first one uppermost."""
    for line, place in enumerate(shown):
        seeds = [*filled.values[place][column].values()]
        if found := filled.estimate(place, column):
            axes.plot(seeds, [line] * len(seeds), ".", color="#9a9a9a", markersize=2)
            error = np.nan_to_num(found.error)
            axes.errorbar(found.mean, line, xerr=error, fmt="o", ms=3, color=_COLOURS[0])
    axes.set_yticks(range(len(shown)), [filled.table.rows[place].name for place in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.grid(axis="x", linewidth=0.25)


def _curves(axes, filled, column, shown):
    """Means over the mask ratio, with masks by magnitude and at random."""
    kinds = dict.fromkeys(row.label[1] for row in filled.table.rows)
    for kind, colour in zip(kinds, _COLOURS, strict=True):
        labels = {place: filled.table.rows[place].label for place in shown}
        places = [p for p in shown if labels[p][1] == kind and filled.values[p][column]]
        ratios = [float(labels[place][0]) for place in places]
        found = [filled.estimate(place, column) for place in places]
        for ratio, place in zip(ratios, places, strict=True):
            seeds = [*filled.values[place][column].values()]
            axes.plot([ratio] * len(seeds), seeds, ".", color="#9a9a9a", markersize=2)
        means, errors = [one.mean for one in found], np.nan_to_num([one.error for one in found])
        axes.errorbar(ratios, means, yerr=errors, fmt="o-", ms=3, color=colour, label=kind)
    axes.set_xlabel("mask ratio")
    axes.legend(frameon=False)
