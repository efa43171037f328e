"""Tables as pictures: one line per row, or a curve over mask ratios as in Figure 2."""

from keras_vitbert.inspection.sheet import (
    EDGE,
    FAINT,
    PAGE,
    Sheet,
    shades,
    shortened,
    width_of,
)
from keras_vitbert.reproduction.cells import HEADS, IMAGES, TEXT

_LINE = 0.17  # inches of a row
_LEFT, _GAP, _BELOW, _HEIGHT = 0.5, 0.55, 0.42, 1.9
_NOTE = "means over seeds, with standard errors; small points are seeds"


def rows_picture(filled):
    """A panel for text and one for images, or one per metric; a line for each row.

    Args:
        filled: `keras_vitbert.reproduction.cells.Filled`.

    Returns:
        `Sheet`; None if no cell is filled.
    """
    columns = [c for c in (TEXT, IMAGES) if c in filled.columns] or list(filled.columns[:3])
    rows = [
        (place, ", ".join(row.label))
        for place, row in enumerate(filled.experiment.rows)
        if any(filled.estimate(place, column) for column in columns)
    ]
    if not rows:
        return None
    names = min(max(width_of(label) for _, label in rows) + 0.1, 1.7)
    height = _LINE * len(rows)
    sheet = Sheet(PAGE, 0.45 + height, filled.experiment.title, _NOTE)
    top = sheet.top + 0.2
    width = (PAGE - 2 * EDGE - names) / len(columns) - 0.15
    for line, (_, label) in enumerate(rows):
        middle = top + (line + 0.5) * _LINE
        sheet.text(EDGE, middle, shortened(label, names), va="center")
    for number, column in enumerate(columns):
        left = EDGE + names + number * (width + 0.15)
        axes = sheet.axes(left, top, width, height, label=column)
        axes.set_title(HEADS.get(column, column))
        axes.set_yticks([])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color=FAINT, linewidth=0.25)
        for line, (place, _) in enumerate(rows):
            _point(axes, filled, place, column, line, is_row=True)
        axes.margins(x=0.08)
    return sheet


def ratios_picture(filled):
    """Figure 2: text and images over the mask ratio, with masks by magnitude and at random.

    Args:
        filled: `Filled`, of the experiment `figure2`.

    Returns:
        `Sheet`; None if no cell is filled.
    """
    rows = filled.experiment.rows
    kinds = list(dict.fromkeys(row.label[1] for row in rows))
    if not filled.is_begun:
        return None
    sheet = Sheet(PAGE, _HEIGHT + _BELOW + 0.3, filled.experiment.title, _NOTE)
    width = (PAGE - _LEFT - _GAP) / 2 - 0.1
    artists = []
    for number, column in enumerate((TEXT, IMAGES)):
        left = _LEFT + number * (width + _GAP)
        axes = sheet.axes(left, sheet.top + 0.15, width, _HEIGHT, label=column)
        axes.set_xlabel("mask ratio")
        axes.set_title(column)
        lines = []
        for kind, colour in zip(kinds, shades(len(kinds)), strict=True):
            means = {
                p: filled.estimate(p, column) for p, row in enumerate(rows) if row.label[1] == kind
            }
            places = [place for place, found in means.items() if found]
            xs = [float(rows[place].label[0]) for place in places]
            ys = [means[place].mean for place in places]
            lines += axes.plot(xs, ys, "-", color=colour, label=kind, zorder=1)
            for x, place in zip(xs, places, strict=True):
                _point(axes, filled, place, column, x, colour)
        artists = artists or lines
    sheet.legend(sheet.top + 0.15 + _HEIGHT + _BELOW, artists, len(kinds))
    return sheet


def _point(axes, filled, place, column, at, colour=None, is_row=False):
    """A mean with its standard error, and its seeds; `at` is the other coordinate."""
    found = filled.estimate(place, column)
    if found is None:
        return
    colour = shades(1)[0] if colour is None else colour
    error = found.error if found.count > 1 else 0.0
    values = list(filled.values[place][column].values())
    if found.count > 1:
        pair = (values, [at] * len(values))
        axes.plot(*(pair if is_row else pair[::-1]), ".", color=FAINT, markersize=2, zorder=0)
    pair, bars = (found.mean, at), {"xerr": error}
    if not is_row:
        pair, bars = pair[::-1], {"yerr": error}
    axes.errorbar(*pair, **bars, fmt="o", color=colour, elinewidth=0.8, capsize=1.5, zorder=2)


def picture_of(filled):
    """The picture of an experiment: `Sheet`, or None if no cell is filled.

    Args:
        filled: `Filled`.
    """
    is_figure = filled.experiment.name == "figure2"
    return ratios_picture(filled) if is_figure else rows_picture(filled)
