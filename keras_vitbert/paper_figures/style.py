"""How all figures look, and how they become files: sizes in inches, letters in points.

Only here matplotlib is set up. A figure has no screen and no state outside itself; the same values
give the same bytes.
"""

import contextlib
import functools
import io
import warnings

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

COLUMN, PAGE = 3.3, 6.9  # inches, the widths of a column and of both with the gap between
MAP = "viridis"  # evenly rising lightness, also for colour-blind readers
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 8, 7, 6.5  # points
INK, FAINT = "#202020", "#9a9a9a"
# Light shades of blue and orange, which letters stand out on and no colour-blind reader mixes up.
BLUE, ORANGE = "#8EC3E6", "#F6CF85"
MARKERS = "osD^vP*X"

DOTS_PER_INCH = 300
EDGE = 0.06  # inches of margin
_METADATA = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
_SETTINGS = {
    "axes.edgecolor": INK,
    "axes.labelpad": 2,
    "axes.labelsize": TEXT_SIZE,
    "axes.linewidth": 0.5,
    "axes.titlesize": TEXT_SIZE,
    "figure.dpi": DOTS_PER_INCH,
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": TEXT_SIZE,
    "legend.fontsize": SMALL_SIZE,
    "legend.frameon": False,
    "lines.linewidth": 1,
    "lines.markersize": 3,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",  # letters stay letters
    "svg.hashsalt": "keras_vitbert",
    "text.color": INK,
    "text.hinting": "none",  # letters are as wide as `width_of` says
    "text.parse_math": False,  # names may hold a $
    "xtick.labelsize": SMALL_SIZE,
    "xtick.major.pad": 2,
    "xtick.major.size": 2,
    "xtick.major.width": 0.5,
    "ytick.labelsize": SMALL_SIZE,
    "ytick.major.pad": 2,
    "ytick.major.size": 2,
    "ytick.major.width": 0.5,
}


@contextlib.contextmanager
def style():
    """A block in which figures are made, drawn and written; a user's own settings do not count."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A letter that the font lacks is shown as a box; to say so for each helps nobody.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


class Sheet:
    """A figure that is laid out in inches from its top left corner.

    Args:
        width, height: float, inches.
        title: str.
        note: str, a line or several in small letters below the title.

    Attributes:
        figure: `matplotlib.figure.Figure`.
        top: float, inches down to where there is room below the title and the note.
    """

    def __init__(self, width, height, title, note=""):
        self.width, self.height = width, height
        self.figure = Figure((width, height))
        FigureCanvasAgg(self.figure)
        self.text(EDGE, 0.05, title, size=TITLE_SIZE, weight="bold")
        self.top = header_height(note)
        if note:
            self.text(EDGE, 0.21, note, size=SMALL_SIZE)

    def axes(self, left, top, width, height, **options):
        """Axes at a place in inches."""
        rectangle = (
            left / self.width,
            1 - (top + height) / self.height,
            width / self.width,
            height / self.height,
        )
        return self.figure.add_axes(rectangle, **options)

    def line(self, left, base, text, **options):
        """A line of text that stands on a height in inches, as the next one beside it does."""
        return self.text(left, base, text, **{"va": "baseline", "size": SMALL_SIZE, **options})

    def text(self, left, top, text, **options):
        """A text whose upper left corner is at a place in inches."""
        options = {"va": "top", "ha": "left", "linespacing": 1.2, **options}
        return self.figure.text(left / self.width, 1 - top / self.height, text, **options)

    def scale(self, left, top, width, image, label, **options):
        """The colour scale of an image, lying, its numbers and label below; 0.38 inches high."""
        axes = self.axes(left, top, width, 0.08)
        bar = self.figure.colorbar(image, cax=axes, orientation="horizontal", **options)
        bar.outline.set_linewidth(0.5)
        bar.set_label(label)
        return bar


def header_height(note):
    """The inches that a title and a note take."""
    return 0.24 + (0.11 * (note.count("\n") + 1) + 0.03 if note else 0)


def shades(count):
    """Colours of an ordered sequence, from dark to light; the lightest still stands out on white.

    Returns:
        list of `count` RGBA tuples.
    """
    colours = matplotlib.colormaps[MAP]
    return (
        [colours(place) for place in np.linspace(0, 0.88, count)] if count > 1 else [colours(0.4)]
    )


def encoded(figure, file_format):
    """The bytes of a figure as `png` or `svg`."""
    content = io.BytesIO()
    figure.savefig(content, format=file_format, dpi=DOTS_PER_INCH, metadata=_METADATA[file_format])
    return content.getvalue()


def raster(figure, dots_per_inch=150):
    """A figure as a uint8 array `(height, width, 3)`, as `tf.summary.image` takes it."""
    figure.set_dpi(dots_per_inch)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def thousands(number, place=None):
    """A number on an axis of steps, as matplotlib's formatters are called: 2000, 10k, 1000k."""
    return f"{number / 1000:g}k" if abs(number) >= 10_000 else f"{number:g}"


def width_of(text, **options):
    """The inches that a line of small letters takes, each letter on its own."""
    return sum(_letter_width(letter, **options) for letter in text)


@functools.cache
def _letter_width(letter, **options):
    font = FontProperties(family="DejaVu Sans", size=SMALL_SIZE, **options)
    return text_to_path.get_text_width_height_descent(letter, font, ismath=False)[0] / 72


def shortened(text, inches, **options):
    """As much of a line of small letters as has room; of a longer one the middle is left out."""
    whole, kept = text, len(text)
    while kept > 1 and width_of(text, **options) > inches:
        kept -= 1
        text = f"{whole[: (kept + 1) // 2]}…{whole[len(whole) - kept // 2 :]}"
    return text


def wrapped(words, inches):
    """Lines of small letters that words fill; a word that is too long is shortened."""
    lines = []
    for word in words:
        longer = f"{lines[-1]} {word}" if lines else ""
        if lines and width_of(longer) <= inches:
            lines[-1] = longer
        else:
            lines.append(shortened(word, inches))
    return lines


def spread(items, most):
    """At most `most` of a list's items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    places = np.linspace(0, len(items) - 1, most).round().astype(int)
    return [items[place] for place in places]
