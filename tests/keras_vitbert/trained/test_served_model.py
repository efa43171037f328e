import functools
import types

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.trained.served_model import ServedModel
from keras_vitbert.trained.trained_model import TrainedModel
from pipelines.tasks.labelled_texts import LabelledTexts
from tests.keras_vitbert.trained.served_models import CLASSES, VOCABULARY
from tests.pipelines.image_fixtures import encoded, picture

SIZE, LENGTH = 6, 7  # of the tiny model
CLS, SEP, MASK = (VOCABULARY.index(token) for token in ("[CLS]", "[SEP]", "[MASK]"))


def softmax(logits):
    powers = np.exp(np.asarray(logits, np.float64))
    return powers / powers.sum(axis=-1, keepdims=True)


def numbers(outputs):
    return {name: value.numpy() for name, value in outputs.items()}


def text_inputs(rows):
    """What the backbone takes of `(ids, length of segment A)` a text."""
    length = max(len(ids) for ids, _ in rows)
    places = np.arange(length)
    return {
        "token_ids": np.array([[*ids, *[0] * (length - len(ids))] for ids, _ in rows]),
        "segment_ids": np.array([(places >= a) & (places < len(ids)) for ids, a in rows]) * 1,
        "padding_mask": np.array([places < len(ids) for ids, _ in rows]) * 1,
    }


def ids(words):
    return [VOCABULARY.index(word) for word in words.split()]


def test_images_are_classified_as_keras_does(served, trained):
    images = [picture(seed, (SIZE, SIZE)) for seed in range(3)]
    pixels = np.stack([np.asarray(image) for image in images])
    found = numbers(served.functions["classify_image"]([encoded(image, "PNG") for image in images]))
    sequence = trained.backbone({"images": pixels / 255})["image_sequence"]
    expected = softmax(trained.heads["image"](sequence[:, 0]))
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
    order = np.argsort(-expected, axis=1)[:, :2]
    assert found["top_k_labels"].tolist() == [[CLASSES[n].encode() for n in row] for row in order]
    np.testing.assert_allclose(
        found["top_k_probabilities"], np.take_along_axis(expected, order, 1), atol=1e-5
    )
    assert found["probabilities"].dtype == found["top_k_probabilities"].dtype == np.float32

    embedded = numbers(served.functions["embed_image"]([encoded(image, "PNG") for image in images]))
    np.testing.assert_allclose(embedded["embedding"], sequence[:, 0], atol=1e-5)
    np.testing.assert_allclose(
        embedded["mean_embedding"], np.asarray(sequence).mean(axis=1), atol=1e-5
    )


@pytest.mark.parametrize("paired", [False, True])
def test_texts_are_classified_as_they_were_trained(served_classifier, classifier, paired):
    texts = ["The cat sats.", "", "the the the the the the the the", "Cats dog"]
    pairs = ["sat", "the cat the cat", "the cat sat the cat sat", ""] if paired else None
    data = LabelledTexts.encode(texts, pairs, np.zeros(4), VOCABULARY, (LENGTH,))
    rows = [
        (data.tokens[data.starts[n] : data.starts[n + 1]], data.first_lengths[n]) for n in range(4)
    ]
    given = np.array([texts, pairs]).T if paired else np.array(texts)
    found = numbers(served_classifier.functions["classify_text"](tf.constant(given)))
    inputs = text_inputs(rows)
    sequence = np.asarray(classifier.backbone(inputs)["text_sequence"])
    expected = softmax(classifier.heads["text"](sequence[:, 0]))
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
    assert np.ptp(expected[:, 0]) > 1e-3
    best = np.argmax(expected, axis=1)
    assert found["top_k_labels"][:, 0].tolist() == [[b"no", b"yes"][n] for n in best]

    embedded = numbers(served_classifier.functions["embed_text"](tf.constant(given)))
    np.testing.assert_allclose(embedded["embedding"], sequence[:, 0], atol=1e-5)
    means = [row[: len(i)].mean(axis=0) for row, (i, _) in zip(sequence, rows, strict=True)]
    np.testing.assert_allclose(embedded["mean_embedding"], means, atol=1e-5)


def test_masks_are_filled_with_the_likeliest_tokens(served, trained):
    found = numbers(
        served.functions["fill_mask"](tf.constant(["The [MASK] sat", "[MASK][MASK] cat."]))
    )
    rows = [([CLS, *ids("the [MASK] sat"), SEP], LENGTH)]
    rows.append(([CLS, MASK, MASK, *ids("cat ."), SEP], LENGTH))
    positions = np.array([[2, 0], [1, 2]])
    sequence = trained.backbone(text_inputs(rows))["text_sequence"]
    scores = softmax(trained.heads["mlm"](sequence, positions))  # over all that the model knows
    assert scores.shape == (2, 2, len(VOCABULARY) + 1)
    order = np.argsort(-scores[..., : len(VOCABULARY)], axis=-1)[..., :2]
    expected = np.take_along_axis(scores, order, -1)
    expected[0, 1] = 0
    tokens = np.array(VOCABULARY)[order]
    tokens[0, 1] = ""
    assert found["tokens"].astype("U").tolist() == tokens.tolist()
    np.testing.assert_allclose(found["scores"], expected, atol=1e-5)


@pytest.mark.parametrize(
    "texts, complaint",
    [
        (["the [MASK]", "the cat"], "text 1 has no [MASK]"),
        (["", "[MASK]"], "text 0 has no [MASK]"),
        ([["the", "cat"]], "text 0 has no [MASK]"),
        (
            ["[MASK]", "[MASK] the the the the [MASK]"],
            "text 1 has a [MASK] beyond the 7 tokens of the model",
        ),
        ([["the", "cat", "[MASK]"]], "a text is one string or a pair"),
    ],
)
def test_a_text_that_cannot_be_filled_is_named(served, texts, complaint):
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        served.functions["fill_mask"](tf.constant(texts))
    assert f"assertion failed: [{complaint}]" in raised.value.message


def test_a_batch_may_be_empty(served, served_classifier):
    functions = {**served.functions, **served_classifier.functions}
    for name, function in functions.items():
        for shape in ((0,),) if "image" in name else ((0,), (0, 2)):
            outputs = function(tf.zeros(shape, tf.string))
            assert all(value.shape[0] == 0 for value in outputs.values()), name


@pytest.fixture(scope="module")
def decode():
    """`decode(encoded, crop=1.0) -> pixels` in 0 to 255, as the model sees them."""

    def backbone(inputs, training, image_positions):
        return {"image_sequence": tf.reshape(inputs["images"], (-1, 1, SIZE * SIZE * 3))}

    class Pixels(types.SimpleNamespace):
        __call__ = staticmethod(backbone)

    eye = Pixels(weights=[], image_size=SIZE, vocabulary_size=None)

    @functools.cache
    def function(crop):
        trained = TrainedModel("", "", eye, {}, central_crop=crop)
        return ServedModel(trained).functions["embed_image"]

    def decode(data, crop=1.0):
        return 255 * function(crop)([data])["embedding"].numpy().reshape(SIZE, SIZE, 3)

    return decode


def test_the_crop_is_that_of_the_run(decode):
    image = picture(0, (2 * SIZE, 2 * SIZE))
    middle = slice(SIZE // 2, SIZE // 2 + SIZE)
    expected = np.asarray(image)[middle, middle].astype(float)
    assert np.abs(decode(encoded(image, "PNG"), crop=0.5) - expected).max() < 1e-3
    assert np.abs(decode(encoded(image, "PNG")) - expected).max() > 1


def test_what_is_no_image(served):
    jpeg = encoded(picture(0), quality=95)
    for data in (b"", b"GIF", b"no image", jpeg[: len(jpeg) // 2], jpeg[:30]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            served.functions["classify_image"]([jpeg, data])
