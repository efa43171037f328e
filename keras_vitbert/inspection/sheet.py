"""Sheets that figures and TensorBoard's pictures are drawn on: sizes in inches, letters in points.

Only this module sets up matplotlib, and without pyplot: a sheet has no screen and no state outside
itself. The same values give the same bytes.
"""

import contextlib
import functools
import gc
import io
import warnings

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import BboxImage
from matplotlib.lines import TICKDOWN, Line2D
from matplotlib.textpath import text_to_path
from matplotlib.transforms import Bbox, TransformedBbox

COLUMN, PAGE = 3.3, 6.9  # inches, the widths of a paper's column and of its page
PRINT, SCREEN = 300, 144  # dots per inch of figures, and of TensorBoard's pictures
EDGE = 0.06  # inches of margin
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 8, 7, 6.5  # points
INK, FAINT, UNKNOWN = "#202020", "#9a9a9a", "#a0a0a0"
# Lightness rises evenly, also for colour-blind readers.
MAP = matplotlib.colormaps["viridis"].with_extremes(bad=UNKNOWN)

_METADATA = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
_SETTINGS = {
    "axes.edgecolor": INK,
    "axes.labelpad": 2,
    "axes.labelsize": TEXT_SIZE,
    "axes.linewidth": 0.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlepad": 3,
    "axes.titlesize": TEXT_SIZE,
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": SMALL_SIZE,
    "image.composite_image": False,
    "legend.borderaxespad": 0,
    "legend.borderpad": 0,
    "legend.columnspacing": 1.2,
    "legend.fontsize": SMALL_SIZE,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.handletextpad": 0.4,
    "lines.linewidth": 1,
    "lines.markersize": 3,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",  # letters stay letters
    "svg.hashsalt": "keras_vitbert",
    "text.color": INK,
    "text.hinting": "none",  # letters are as wide as `width_of` says
    "text.parse_math": False,  # names may contain a $
    **{f"{axis}tick.labelsize": SMALL_SIZE for axis in "xy"},
    **{f"{axis}tick.major.{name}": 2 for axis in "xy" for name in ("pad", "size")},
    **{f"{axis}tick.major.width": 0.5 for axis in "xy"},
}


@contextlib.contextmanager
def style():
    """A context in which sheets are made, drawn and written, whatever the user's settings.

    Sheets that nothing refers to at its end do not stay in memory.
    """
    # A figure is full of reference cycles. Objects that survive two garbage collections are only
    # looked at again when there are a quarter more of them. Next to the half a million objects of
    # TensorFlow, that amounts to hundreds of megabytes. So Python does not collect meanwhile but at
    # the end, while all figures are still young, which takes a ms.
    looks = gc.isenabled()
    gc.disable()
    try:
        with matplotlib.rc_context(), warnings.catch_warnings():
            # A letter that the font lacks is drawn as a box; a warning for each helps nobody.
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_SETTINGS)
            yield
    finally:
        gc.collect(1)
        if looks:
            gc.enable()


class Sheet:
    """A figure that is laid out in inches from its top left corner.

    Args:
        width: float, inches.
        height: float, inches below the title and the note.
        title: str.
        note: str, one or several lines in small letters; lines that are too long are shortened.
        dots_per_inch: int.

    Attributes:
        width, height: float, inches of the whole sheet, rounded to whole dots.
        top: float, inches down to the end of the title and the note.
        figure: `matplotlib.figure.Figure`.
    """

    def __init__(self, width, height, title, note="", dots_per_inch=PRINT):
        lines = [shortened(line, width - 2 * EDGE) for line in note.splitlines()]
        self.top = 0.24 + (0.11 * len(lines) + 0.03 if lines else 0)
        self.width, self.height = (
            round(inches * dots_per_inch) / dots_per_inch for inches in (width, self.top + height)
        )
        self.figure = Figure((self.width, self.height), dpi=dots_per_inch)
        self.text(EDGE, 0.05, title, size=TITLE_SIZE, weight="bold")
        self.text(EDGE, 0.21, "\n".join(lines))

    def axes(self, left, top, width, height, **options):
        """Adds axes.

        Args:
            left, top, width, height: float, inches.
            options: see `matplotlib.figure.Figure.add_axes`.
        """
        rectangle = (
            left / self.width,
            1 - (top + height) / self.height,
            width / self.width,
            height / self.height,
        )
        return self.figure.add_axes(rectangle, **options)

    def text(self, left, top, text, **options):
        """Adds a text, by default in small letters.

        Args:
            left, top: float, inches, of its upper left corner unless `va` and `ha` say otherwise.
            text: str.
            options: see `matplotlib.text.Text`.
        """
        options = {"va": "top", "linespacing": 1.2, **options}
        self.figure.text(left / self.width, 1 - top / self.height, text, **options)

    def image(self, left, top, width, height, cells):
        """Adds an image that fills a rectangle.

        Args:
            left, top, width, height: float, inches; the edges are rounded to whole dots.
            cells: uint8 `(rows, columns, 3)`.
        """
        dots, bottom = self.figure.dpi, round(self.height * self.figure.dpi)
        x0, x1 = round(left * dots), round((left + width) * dots)
        y0, y1 = bottom - round((top + height) * dots), bottom - round(top * dots)
        box = Bbox.from_extents(*(edge / dots for edge in (x0, y0, x1, y1)))
        # Cells of unequal width are smoothed, unless they are large.
        smoothing = "antialiased" if (x1 - x0) % cells.shape[1] else "nearest"
        place = TransformedBbox(box, self.figure.dpi_scale_trans)
        image = BboxImage(place, interpolation=smoothing)
        image.set_data(cells)
        self.figure.add_artist(image)

    def marks(self, left, top, width, texts):
        """Adds ticks along a horizontal line, and texts below them.

        Args:
            left, top, width: float, inches.
            texts: dict of a place, from 0 at the left to 1 at the right, to str.
        """
        places = [left + place * width for place in texts]
        for place, text in zip(places, texts.values(), strict=True):
            self.text(place, top + 0.04, text, ha="center")
        ticks = Line2D(
            [place / self.width for place in places],
            [1 - top / self.height] * len(places),
            color=INK,
            linestyle="none",
            marker=TICKDOWN,
            markersize=2,
            markeredgewidth=0.5,
        )
        self.figure.add_artist(ticks)

    def scale(self, left, top, width, label, texts=None, cells=None):
        """Adds a colour scale, 0.36 inches high with its numbers and label.

        Args:
            left, top, width: float, inches.
            label: str.
            texts: dict, see `marks`; by default from 0 to 1.
            cells: uint8 `(1, colours, 3)`; by default those of `colours` from 0 to 1.
        """
        cells = colours(np.linspace(0, 1, 256)[None]) if cells is None else cells
        self.image(left, top, width, 0.08, cells)
        self.marks(left, top + 0.08, width, texts or {0: "0", 0.5: "0.5", 1: "1"})
        self.text(left + width / 2, top + 0.24, label, size=TEXT_SIZE, ha="center")

    def legend(self, top, artists, columns):
        """Adds a legend of the labels of artists, in the middle of the sheet.

        Args:
            top: float, inches.
            artists: list of `matplotlib.artist.Artist`.
            columns: int.
        """
        place = (0.5, 1 - top / self.height)
        self.figure.legend(handles=artists, loc="upper center", bbox_to_anchor=place, ncols=columns)

    def picture(self):
        """Draws the sheet.

        Returns:
            uint8 `(height, width, 3)`, as `tf.summary.image` takes it.
        """
        canvas = FigureCanvasAgg(self.figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3]

    def encoded(self, file_format, description=None):
        """The bytes of a file.

        Args:
            file_format: str, `png` or `svg`.
            description: str, what the file's metadata say about the picture, or None.
        """
        content = io.BytesIO()
        metadata = {**_METADATA[file_format], "Description": description}
        self.figure.savefig(content, format=file_format, dpi=self.figure.dpi, metadata=metadata)
        return content.getvalue()


def colours(values, high=1.0):
    """The colours of numbers on a scale that begins at 0.

    Args:
        values: array of any shape. Values beyond the scale have the colour of its end.
        high: float, the end of the scale; if it is 0, everything has the colour of 0.

    Returns:
        uint8 `values.shape + (3,)`; grey where a value is not finite.
    """
    finite = np.where(np.isfinite(values), values, np.nan)
    return MAP(finite / (high or 1.0), bytes=True)[..., :3]


def shades(count):
    """Colours of an ordered sequence, from dark to light; the lightest still stands out on white.

    Args:
        count: int.

    Returns:
        float array `(count, 4)`, RGBA.
    """
    return MAP(np.linspace(0, 0.88, count) if count > 1 else [0.4])


def width_of(text, **options):
    """The width of a line of small letters, in inches; the sum over its letters.

    Args:
        text: str.
        options: see `matplotlib.font_manager.FontProperties`.
    """
    return sum(_letter_width(letter, **options) for letter in text)


@functools.cache
def _letter_width(letter, **options):
    font = FontProperties(family="DejaVu Sans", size=SMALL_SIZE, **options)
    return text_to_path.get_text_width_height_descent(letter, font, ismath=False)[0] / 72


def shortened(text, inches, **options):
    """As much of a line of small letters as fits; the middle of a longer line is left out.

    Args:
        text: str.
        inches: float.
        options: see `width_of`.
    """
    whole, kept = text, len(text)
    while kept > 1 and width_of(text, **options) > inches:
        kept -= 1
        text = f"{whole[: (kept + 1) // 2]}…{whole[len(whole) - kept // 2 :]}"
    return text


def wrapped(words, inches):
    """Breaks small letters into lines; a word that is too long is shortened.

    Args:
        words: list of str.
        inches: float, the width of a line.

    Returns:
        list of str.
    """
    lines = []
    for word in words:
        longer = f"{lines[-1]} {word}" if lines else ""
        if lines and width_of(longer) <= inches:
            lines[-1] = longer
        else:
            lines.append(shortened(word, inches))
    return lines


def spread(items, most):
    """Some of a list's items, evenly spread, including the first and the last.

    Args:
        items: list.
        most: int, how many items at most.
    """
    if len(items) <= most:
        return list(items)
    places = np.linspace(0, len(items) - 1, most).round().astype(int)
    return [items[place] for place in places]
