"""What pictures of activations say is read back from their pixels."""

import numpy as np
import pytest

from keras_vitbert.inspection import pictures
from keras_vitbert.inspection.activation_pictures import (
    block_picture,
    by_preference,
    overview_picture,
    scale_top,
)
from tests.keras_vitbert.inspection.picture_search import contains


def test_preference_is_the_ratio():
    image, text = np.array([0.0, 4, 1, 0, 2, 5]), np.array([3.0, 1, 1, 0, 0, 10])
    assert by_preference(image, text).tolist() == [4, 1, 2, 3, 5, 0]
    random = np.random.default_rng(0)
    image, text = random.random((2, 300)) + 0.1
    assert np.array_equal(by_preference(image, text), np.argsort(text / image))
    assert np.array_equal(by_preference(16 * image, text), by_preference(image, text))


def test_few_units_far_above_the_others_do_not_set_the_scale():
    values = np.ones(1000)
    values[3] = 500
    assert scale_top(values) == 1
    assert scale_top(np.eye(1, 1000)) == 1  # but where nothing else answers they do
    assert scale_top(np.zeros(10)) == 0


@pytest.mark.parametrize("units", [8, 128, 768, 1024])
def test_a_blocks_picture_shows_the_values(units):
    image, text = np.random.default_rng(units).random((2, units)).astype(np.float32)
    found = block_picture(image, text, 3, 500)
    assert found.dtype == np.uint8 and 800 <= found.shape[1] <= 1120
    high, width = scale_top(np.stack([image, text])), max(1, 800 // units)
    order = by_preference(image, text)
    for part in (
        pictures.words("block 3, step 500", pictures.TITLE_SIZE),
        *(
            pictures.cells(pictures.colours(row[None], 0, high), width, 2)
            for row in (image, text, image[order], text[order])
        ),
        pictures.words("images"),
        pictures.words("text"),
        pictures.words(f"{high:.3g} and more"),
        pictures.words(f"{sum(i > t for i, t in zip(image, text, strict=True))} prefer images"),
        pictures.words(f"{sum(i < t for i, t in zip(image, text, strict=True))} prefer text"),
    ):
        assert contains(found, part)


def test_the_overview_shows_each_block_on_its_own_scale():
    values = np.random.default_rng(0).random((2, 12, 768))
    values *= 2.0 ** np.arange(12)[:, None]
    found = overview_picture(*values, 500)
    assert found.shape[0] < 800 and 800 <= found.shape[1] <= 1100
    for block, both in enumerate(values.transpose(1, 0, 2)):
        high = scale_top(both)
        for row in both:
            assert contains(found, pictures.colours(row[None], 0, high))
        assert contains(found, pictures.words(f"block {block}"))


def test_pictures_of_a_model_that_does_not_answer():
    for picture in (
        block_picture(np.zeros(8), np.zeros(8), 0, 0),
        overview_picture(np.zeros((2, 8)), np.zeros((2, 8)), 0),
    ):
        assert contains(picture, np.tile(pictures.colours([[0.0]], 0, 1), (16, 800, 1)))
