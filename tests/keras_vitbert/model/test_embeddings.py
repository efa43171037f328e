"""The embeddings of images and of text against the paper's equations in NumPy."""

import numpy as np
import pytest

from keras_vitbert.model.embeddings import ImageEmbedding, TextEmbedding
from tests.keras_vitbert.training import reference

PATCH = 3


def close(actual, expected, atol=1e-5):
    """float32 rounds a hundred additions of numbers around 1 to a few 1e-6."""
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=1e-5, atol=atol)


@pytest.fixture(scope="module")
def batch(make_batch):
    return make_batch(0)


def test_image_embedding_is_equation_1(batch, randomize):
    layer = ImageEmbedding(6, PATCH, 8)
    layer.build((None, 6, 6, 3))
    weights = reference.part(reference.weights_of(randomize(layer, 1)), layer.name)
    close(layer(batch["images"]), reference.image_embedding(batch["images"], weights, PATCH))


def test_pixels_are_scaled_to_plus_minus_one():
    layer = ImageEmbedding(2, 2, 4)
    layer.build((None, 2, 2, 3))
    layer.position_embedding.assign(np.zeros((1, 2, 4)))
    layer.patch_projection.kernel.assign(np.ones((12, 4)))
    images = np.stack([np.zeros((2, 2, 3)), np.ones((2, 2, 3)), np.full((2, 2, 3), 0.5)])
    assert np.asarray(layer(images))[:, 1, 0].tolist() == [-12, 12, 0]


def test_text_embedding_is_equation_2(batch, randomize):
    layer = TextEmbedding(13, 9, 8)  # texts may be shorter than the longest
    layer.build()
    weights = reference.part(reference.weights_of(randomize(layer, 1)), layer.name)
    ids, segments = batch["token_ids"], batch["segment_ids"]
    close(layer(ids, segments), reference.text_embedding(ids, segments, weights))
