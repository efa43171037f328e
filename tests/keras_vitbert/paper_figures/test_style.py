"""Letters that fit, and figures as pictures."""

import numpy as np

from keras_vitbert.paper_figures import activation_figure
from keras_vitbert.paper_figures.style import raster, shortened, style, width_of, wrapped


def test_letters_fit():
    with style():
        assert shortened("word", 1.0) == "word"
        short = shortened("abcdefghijklmnopqrstuvwxyz" * 4, 1.0)
        assert width_of(short) <= 1.0 < width_of(short.replace("…", "mmm"))
        assert short.startswith("abc") and short.endswith("xyz") and "…" in short
        lines = wrapped(["word"] * 30, 1.0)
        assert " ".join(lines).split() == ["word"] * 30
        assert all(width_of(line) <= 1.0 < width_of(f"{line} word") for line in lines[:-1])


def test_picture_for_tensorboard(activations):
    with style():
        figure = activation_figure.draw(activations, "run")
        picture = raster(figure, 100)
    height, width = (round(100 * inches) for inches in figure.get_size_inches()[::-1])
    assert (
        picture.dtype == np.uint8 and abs(np.array(picture.shape) - (height, width, 3)).max() <= 1
    )
    assert (picture[0, 0] == 255).all() and len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
