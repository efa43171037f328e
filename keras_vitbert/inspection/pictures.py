"""Small pictures by NumPy and Pillow: colours, cells, words, and how they are put together.

A picture is a uint8 array `(height, width, 3)` with its own light background, so that it reads the
same on a dark page. Nothing here knows what is drawn.
"""

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFont

BACKGROUND = (255, 255, 255)
INK = (24, 24, 24)
UNKNOWN = (160, 160, 160)  # the colour of what is not finite; none of the scale

TEXT_SIZE, TITLE_SIZE = 14, 18  # pixels

# From low to high, at equal distances: lightness (CIE L*) rises by some 11 from each to the next,
# and hue from blue over green to yellow, so that order is seen without telling red from green.
_ANCHORS = np.array(
    [
        (22, 1, 70),
        (0, 33, 113),
        (11, 73, 108),
        (23, 104, 123),
        (32, 137, 137),
        (44, 172, 141),
        (64, 209, 111),
        (174, 229, 82),
        (253, 244, 116),
    ],
    np.float64,
)


def colours(values, low, high):
    """The colours of numbers.

    Args:
        values: array of any shape. What lies beyond `low` or `high` has the colour of that end.
        low, high: floats, the ends of the scale. Where they are equal all is as `low`.

    Returns:
        uint8 array, `values.shape + (3,)`; grey where a value is not finite.
    """
    values = np.asarray(values, np.float64)
    finite = np.isfinite(values)
    span = high - low
    place = (np.where(finite, values, low) - low) / span if span > 0 else np.zeros(values.shape)
    place = np.clip(place, 0, 1) * (len(_ANCHORS) - 1)
    places = np.arange(len(_ANCHORS))
    rgb = np.stack([np.interp(place, places, channel) for channel in _ANCHORS.T], axis=-1)
    return np.where(finite[..., None], np.rint(rgb), UNKNOWN).astype(np.uint8)


def cells(picture, width, height=None):
    """Every pixel as a cell of `width` times `height` pixels; a square if `height` is None."""
    return picture.repeat(height or width, axis=0).repeat(width, axis=1)


def words(line, size=TEXT_SIZE, colour=INK):
    """One line of text as a picture of `line_height(size)` pixels, as wide as it is."""
    font = _font(size)
    width = max(1, int(np.ceil(font.getlength(line))) + 1)
    image = Image.new("RGB", (width, line_height(size)), BACKGROUND)
    ascent, descent = font.getmetrics()
    top = (image.height - ascent - descent) // 2
    ImageDraw.Draw(image).text((0, top), line, fill=colour, font=font)
    return np.array(image)


def line_height(size=TEXT_SIZE):
    """The pixels that a line of text takes from top to bottom."""
    return sum(_font(size).getmetrics()) + 1


def blank(height, width):
    """A picture of nothing but background."""
    return np.full((height, width, 3), BACKGROUND, np.uint8)


def stack_rows(pictures, gap=8):
    """Pictures below each other, their left edges in line, `gap` pixels apart."""
    width = max(picture.shape[1] for picture in pictures)
    rows = []
    for picture in pictures:
        if rows:
            rows.append(blank(gap, width))
        rows.append(np.hstack([picture, blank(len(picture), width - picture.shape[1])]))
    return np.vstack(rows)


def stack_columns(pictures, gap=8):
    """Pictures beside each other, their middles in line, `gap` pixels apart."""
    height = max(len(picture) for picture in pictures)
    columns = []
    for picture in pictures:
        if columns:
            columns.append(blank(height, gap))
        above = (height - len(picture)) // 2
        below = height - len(picture) - above
        width = picture.shape[1]
        columns.append(np.vstack([blank(above, width), picture, blank(below, width)]))
    return np.hstack(columns)


def labelled_rows(pictures, labels, gap=2):
    """Rows with their names to the left, in a column of their own; left edges in line.

    Args:
        pictures: list of pictures.
        labels: list of str, one each; "" for a row without a name.
        gap: int, pixels between two rows.
    """
    names = [words(label) for label in labels]
    width = max(name.shape[1] for name in names)
    rows = []
    for name, picture in zip(names, pictures, strict=True):
        name = np.hstack([blank(len(name), width - name.shape[1]), name])
        rows.append(stack_columns([name, picture]))
    return stack_rows(rows, gap)


def ruler(count, cell_width, gap=12):
    """Numbers below `count` cells, from 0, at the left edges of every so many.

    The numbers are as close as `gap` pixels between them allow, at steps of 1, 2 or 5 times a power
    of ten.
    """
    widest = words(f"{count - 1}").shape[1] + gap
    steps = (factor * 10**power for power in range(9) for factor in (1, 2, 5))
    step = next(step for step in steps if step * cell_width >= widest)
    tick, width = 4, count * cell_width
    picture = blank(tick + line_height(), width)
    for unit in range(0, count, step):
        left = unit * cell_width
        number = words(f"{unit}")
        if left + number.shape[1] <= width:
            picture[:tick, left : left + 2] = INK
            picture[tick:, left : left + number.shape[1]] = number
    return picture


def legend(low, high, name, width=240, beyond=False):
    """The scale of `colours`: a bar, its numbers below, and what they measure beside it.

    Args:
        low, high: floats.
        name: str, with the unit.
        width: int, pixels of the bar, at least 100.
        beyond: bool, whether there are values above `high`, which its number then tells.
    """
    bar = colours(np.linspace(0, 1, width)[None], 0, 1).repeat(line_height(), axis=0)
    more = " and more" if beyond else ""
    marks = [(0, low, ""), (width // 2, (low + high) / 2, ""), (width - 1, high, more)]
    left = words(f"{low:.3g}").shape[1] // 2
    below = blank(line_height() + 4, left + width + words(f"{high:.3g}{more}").shape[1])
    for place, number, more in marks:  # each number in the middle under its place
        tick = left + min(place, width - 2)
        below[:4, tick : tick + 2] = INK
        begin = left + place - words(f"{number:.3g}").shape[1] // 2
        text = words(f"{number:.3g}{more}")
        below[4:, begin : begin + text.shape[1]] = text
    bar = np.hstack([blank(len(bar), left), bar])
    name = stack_rows([words(name), blank(len(below), 1)], gap=0)
    return stack_columns([stack_rows([bar, below], gap=0), name])


def titled(picture, title, note=""):
    """A picture under a title and, in smaller letters, a note; a margin around all of it."""
    lines = [words(title, TITLE_SIZE)] + ([words(note)] if note else [])
    picture = stack_rows([stack_rows(lines, gap=2), picture], gap=10)
    margin = 12
    picture = stack_columns([blank(1, 0), picture, blank(1, 0)], gap=margin)
    return stack_rows([blank(0, 1), picture, blank(0, 1)], gap=margin)


@functools.cache
def _font(size):
    return ImageFont.load_default(size)
