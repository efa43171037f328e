"""Figures of examples and answers: what they show is read back from their axes."""

import numpy as np

from keras_vitbert.inspection import example_figures
from tests.keras_vitbert.inspection.axes import cells_of, drawn


def test_a_matrix_has_names_counts_and_shares():
    """Class `b` has no examples: its row has neither numbers nor shares."""
    confusion = np.array([[1234, 17, 0], [0, 0, 0], [5, 0, 15]])
    classes = ["cat", "b$_x$", "fox"]
    axes = drawn(example_figures.confusion_figure, confusion, classes, "title").axes[0]
    shares = np.array([[1234 / 1251, 17 / 1251, 0], [np.nan] * 3, [0.25, 0, 0.75]])
    np.testing.assert_array_equal(np.ma.filled(cells_of(axes), np.nan), shares)
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == classes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("prediction", "label")
    written = {text.get_position()[::-1]: text.get_text() for text in axes.texts}
    assert written == {(0, 0): "1,234", (0, 1): "17", (2, 0): "5", (2, 2): "15"}


def test_of_more_classes_the_most_confused_pairs():
    confusion = np.diag(np.full(101, 10))
    confusion[3, 50], confusion[50, 3], confusion[2, 1] = 5, 10, 10
    names = [f"c{n}" for n in range(101)]
    axes = drawn(example_figures.confusion_figure, confusion, names, "title").axes[0]
    assert [text.get_text() for text in axes.texts] == ["10  (50%)", "10  (50%)", "5  (33%)"]
    order = [label.get_text() for label in axes.get_yticklabels()]
    assert order == ["c2 → c1", "c50 → c3", "c3 → c50"]


def test_patches_lie_over_the_image():
    random = np.random.default_rng(1)
    image, values = random.integers(0, 256, (6, 6, 3), np.uint8), random.random((3, 4))
    figure = drawn(example_figures.image_blocks, "title", image, values, 1, None)
    seen, *others = [axes for axes in figure.axes if axes.get_images()]
    np.testing.assert_array_equal(cells_of(seen), image)
    for axes, block in zip(others, (1, 0, 1, 2), strict=True):
        grey, heat = axes.get_images()
        np.testing.assert_allclose(grey.get_array(), image.mean(-1))
        np.testing.assert_array_equal(heat.get_array(), values[block].reshape(2, 2))
        assert heat.get_extent() == grey.get_extent() == [0, 6, 6, 0]
        assert heat.get_clim() == (values[block].min(), values[block].max())
