"""Tables as pictures: one line per row, or a curve over mask ratios as in Figure 2."""

from matplotlib.figure import Figure

from keras_vitbert.inspection.drawing import FAINT, PAGE, PRINT, new_figure, shades, shortened
from keras_vitbert.reproduction.cells import HEADS, IMAGES, TEXT, Filled

_NOTE = "means over seeds, with standard errors; small points are seeds"


def rows_picture(filled: Filled) -> Figure | None:
    """A panel for text and one for images, or one per metric; a line for each row."""
    columns = [c for c in (TEXT, IMAGES) if c in filled.columns] or list(filled.columns[:3])
    rows = [
        (place, ", ".join(row.label))
        for place, row in enumerate(filled.experiment.rows)
        if any(filled.estimate(place, column) for column in columns)
    ]
    if not rows:
        return None
    figure = new_figure(PAGE, 0.9 + 0.17 * len(rows), filled.experiment.title, _NOTE, PRINT)
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axes, column in zip(panels, columns, strict=True):
        axes.set(title=HEADS.get(column, column), label=column)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color=FAINT, linewidth=0.25)
        for line, (place, _) in enumerate(rows):
            _point(axes, filled, place, column, line, is_row=True)
        axes.margins(x=0.08)
    panels[0].set_yticks(range(len(rows)), [shortened(label, 36) for _, label in rows])
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    return figure


def ratios_picture(filled: Filled) -> Figure | None:
    """Figure 2: text and images over the mask ratio, with masks by magnitude and at random."""
    rows = filled.experiment.rows
    kinds = list(dict.fromkeys(row.label[1] for row in rows))
    if not filled.is_begun:
        return None
    figure = new_figure(PAGE, 2.8, filled.experiment.title, _NOTE, PRINT)
    for axes, column in zip(figure.subplots(1, 2), (TEXT, IMAGES), strict=True):
        axes.set(xlabel="mask ratio", title=column, label=column)
        for kind, colour in zip(kinds, shades(len(kinds)), strict=True):
            means = {
                p: filled.estimate(p, column) for p, row in enumerate(rows) if row.label[1] == kind
            }
            places = [place for place, found in means.items() if found]
            xs = [float(rows[place].label[0]) for place in places]
            ys = [means[place].mean for place in places]
            axes.plot(xs, ys, "-", color=colour, label=kind, zorder=1)
            for x, place in zip(xs, places, strict=True):
                _point(axes, filled, place, column, x, colour)
        axes.legend()
    return figure


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


def picture_of(filled: Filled) -> Figure | None:
    """The picture of an experiment, or None if no cell is filled."""
    is_figure = filled.experiment.name == "figure2"
    return ratios_picture(filled) if is_figure else rows_picture(filled)
