"""Mean activations as pictures: a strip for one block, and an overview of all."""

import numpy as np

from keras_vitbert.inspection.co_activation import TOP, overlap, rank_correlation
from keras_vitbert.inspection.pictures import (
    blank,
    cells,
    colours,
    labelled_rows,
    legend,
    ruler,
    stack_columns,
    stack_rows,
    titled,
    words,
)

_STRIP_WIDTH = 800  # pixels for the units, unless they are more
_NAME = "mean absolute activation"


def by_preference(image, text):
    """The units from those that answer most to images to those that answer most to text.

    The order is that of `(image - text) / (image + text)`, which is the order of their ratio: it
    stays the same where one modality is louder in all units. Of equal ones the smaller number
    comes first.

    Args:
        image, text: `(D,)`.

    Returns:
        int `(D,)`, unit numbers.
    """
    image, text = np.asarray(image, np.float64), np.asarray(text, np.float64)
    total = image + text
    preference = np.divide(image - text, total, out=np.zeros_like(total), where=total > 0)
    return np.argsort(-preference, kind="stable")


def scale_top(values):
    """The value that the brightest colour stands for: few units lie far above all others.

    It is the 99th percentile, or the largest value where that is 0.
    """
    return float(np.percentile(values, 99)) or float(np.max(values))


def block_picture(image, text, block, step):
    """One block: a row of cells for images above one for text, twice.

    The units come first by number and then, in the lower pair, by the modality that they prefer,
    with how many answer more to either.
    All rows share one scale, which begins at 0.

    Args:
        image, text: `(D,)`, mean absolute activations.
        block, step: int.

    Returns:
        uint8 `(height, width, 3)`.
    """
    units = len(image)
    width = max(1, _STRIP_WIDTH // units)
    both = np.stack([image, text])
    high, largest = scale_top(both), float(both.max())

    def rows(order):
        return [cells(colours(row[None, order], 0, high), width, 40) for row in both]

    by_number, sorted_rows = rows(np.arange(units)), rows(by_preference(image, text))
    left = words(f"{np.count_nonzero(image > text)} prefer images")
    right = words(f"{np.count_nonzero(image < text)} prefer text")
    space = blank(1, max(units * width - left.shape[1] - right.shape[1], 12))
    pairs = [
        labelled_rows(
            [words(f"the {units} units by number"), *by_number, ruler(units, width)],
            ["", "images", "text", "unit"],
        ),
        labelled_rows(
            [
                words("the same units, sorted by the modality that they prefer"),
                *sorted_rows,
                stack_columns([left, space, right], gap=0),
            ],
            ["", "images", "text", ""],
        ),
    ]
    scale = legend(0, high, _NAME, beyond=largest > high)
    note = (
        f"overlap of the {TOP:.0%} of the units that answer most: {overlap(image, text):.2f} "
        f"(by chance {TOP:.2f}), rank correlation: {rank_correlation(image, text):.2f}"
    )
    return titled(stack_rows([*pairs, scale], gap=14), f"block {block}, step {step}", note)


def overview_picture(image, text, step):
    """All blocks below each other, units by number; a block's two rows share its own scale.

    At the right of a block stand the value of its brightest colour and its overlap.

    Args:
        image, text: `(blocks, D)`, mean absolute activations.
        step: int.

    Returns:
        uint8 `(height, width, 3)`.
    """
    units = image.shape[1]
    width = max(1, _STRIP_WIDTH // units)
    header = _numbers("scale to", "overlap")
    rows = [stack_columns([blank(1, units * width + words("images").shape[1] + 8), header])]
    for both in zip(image, text, strict=True):
        high = scale_top(both)
        pair = [cells(colours(values[None], 0, high), width, 16) for values in both]
        names = labelled_rows(pair, ["images", "text"], gap=0)
        numbers = _numbers(f"{high:#.3g}".rstrip("."), f"{overlap(*both):.2f}")
        rows.append(stack_columns([names, numbers]))
    rows.append(stack_columns([blank(1, words("images").shape[1]), ruler(units, width)]))
    labels = ["", *(f"block {block}" for block in range(len(image))), "unit"]
    scale = legend(0, 1, f"{_NAME}, as a part of what the scale goes to", beyond=True)
    picture = stack_rows([labelled_rows(rows, labels, gap=6), scale], gap=14)
    note = (
        f"overlap: of the {TOP:.0%} of the units that answer most, the part in common "
        f"(by chance {TOP:.2f})"
    )
    return titled(picture, f"all blocks, step {step}", note)


def _numbers(*texts):
    """A line of numbers, each in a column of its own."""
    columns = []
    for text in texts:
        number = words(text)
        columns.append(np.hstack([number, blank(len(number), max(0, 58 - number.shape[1]))]))
    return stack_columns(columns)
