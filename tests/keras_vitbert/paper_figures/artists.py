"""Sizes of the values that are drawn, and what is found again on a sheet."""

import numpy as np
from matplotlib.image import BboxImage

UNITS, HIDDEN, WIDE = 20, 8, 12
SHAPES = {
    "self_attention_layer/query": (HIDDEN, 2, HIDDEN // 2),
    "self_attention_layer/key": (HIDDEN, 2, HIDDEN // 2),
    "self_attention_layer/value": (HIDDEN, 2, HIDDEN // 2),
    "self_attention_layer/attention_output": (2, HIDDEN // 2, HIDDEN),
    "feedforward_intermediate_dense": (HIDDEN, WIDE),
    "feedforward_output_dense": (WIDE, HIDDEN),
}
LIMITS = {3: 0.1, 5: 0.3, 7: 0.55}  # step to what is cleared below


def by_label(sheet, start):
    """The axes whose label begins with a text, by their labels."""
    return {
        axes.get_label(): axes
        for axes in sheet.figure.axes
        if str(axes.get_label()).startswith(start)
    }


def images_of(sheet):
    """The cells of every image, in the order in which they were added."""
    images = [artist for artist in sheet.figure.artists if isinstance(artist, BboxImage)]
    return [np.asarray(image.get_array()) for image in images]


def texts_of(sheet):
    """All texts outside of axes."""
    return [text.get_text() for text in sheet.figure.texts]


def assert_within_the_page(sheet):
    """Nothing that is drawn leaves the page."""
    box = sheet.figure.get_tightbbox(sheet.figure.canvas.get_renderer())  # inches
    width, height = sheet.figure.get_size_inches()
    assert 0 <= box.x0 and box.x1 <= width and 0 <= box.y0 and box.y1 <= height, box


def masks_of(importance, limit):
    """What is kept of each variable, by its path."""
    return {path: values > limit for path, values in importance.items()}
