import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.trained.served_model import ServedModel
from pipelines.tasks.labelled_texts import LabelledTexts
from tests.keras_vitbert.trained.served_models import CLASSES, VOCABULARY
from tests.pipelines.image_fixtures import encoded, picture

SIZE, LENGTH = 6, 7  # of the tiny model
CLS, SEP, MASK = (VOCABULARY.index(token) for token in ("[CLS]", "[SEP]", "[MASK]"))


def softmax(logits):
    powers = np.exp(np.asarray(logits, np.float64))
    return powers / powers.sum(axis=-1, keepdims=True)


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


def close(found, expected):
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_images_are_classified_as_keras_does(served, trained):
    images = [picture(seed, (SIZE, SIZE)) for seed in range(3)]
    pixels = np.stack([np.asarray(image) for image in images])
    given = [encoded(image, "PNG") for image in images]
    found = served.functions["classify_image"](given)
    sequence = trained.backbone({"images": pixels / 255})["image_sequence"]
    expected = softmax(trained.heads["image"](sequence[:, 0]))
    close(found["probabilities"], expected)
    order = np.argsort(-expected, axis=1)[:, :2]
    names = [[CLASSES[n].encode() for n in row] for row in order]
    assert found["top_k_labels"].numpy().tolist() == names
    close(found["top_k_probabilities"], np.take_along_axis(expected, order, 1))
    embedded = served.functions["embed_image"](given)
    close(embedded["embedding"], sequence[:, 0])
    close(embedded["mean_embedding"], np.asarray(sequence).mean(axis=1))


@pytest.mark.parametrize("paired", [False, True])
def test_texts_are_classified_as_they_were_trained(served_classifier, classifier, paired):
    texts = ["The cat sats.", "", "the the the the the the the the", "Cats dog"]
    pairs = ["sat", "the cat the cat", "the cat sat the cat sat", ""] if paired else None
    data = LabelledTexts.encode(texts, pairs, np.zeros(4), VOCABULARY, (LENGTH,))
    rows = [
        (data.tokens[data.starts[n] : data.starts[n + 1]], data.first_lengths[n]) for n in range(4)
    ]
    given = tf.constant(np.array([texts, pairs]).T if paired else np.array(texts))
    found = served_classifier.functions["classify_text"](given)
    sequence = np.asarray(classifier.backbone(text_inputs(rows))["text_sequence"])
    expected = softmax(classifier.heads["text"](sequence[:, 0]))
    close(found["probabilities"], expected)
    assert np.ptp(expected[:, 0]) > 1e-3
    best = np.argmax(expected, axis=1)
    assert found["top_k_labels"].numpy()[:, 0].tolist() == [[b"no", b"yes"][n] for n in best]

    embedded = served_classifier.functions["embed_text"](given)
    close(embedded["embedding"], sequence[:, 0])
    means = [row[: len(i)].mean(axis=0) for row, (i, _) in zip(sequence, rows, strict=True)]
    close(embedded["mean_embedding"], means)


def test_masks_are_filled_with_the_likeliest_tokens(served, trained):
    found = served.functions["fill_mask"](tf.constant(["The [MASK] sat", "[MASK][MASK] cat."]))
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
    assert found["tokens"].numpy().astype("U").tolist() == tokens.tolist()
    close(found["scores"], expected)


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        (["the [MASK]", "the cat"], "text 1 has no [MASK]"),
        (["[MASK]", "[MASK] the the the the [MASK]"], "text 1 has a [MASK] beyond the 7 tokens"),
        ([["the", "cat", "[MASK]"]], "a text is one string or a pair"),
    ],
)
def test_a_text_that_cannot_be_filled_is_named(served, texts, complaint):
    with pytest.raises(tf.errors.InvalidArgumentError, match=re.escape(f"failed: [{complaint}")):
        served.functions["fill_mask"](tf.constant(texts))


def test_a_batch_may_be_empty(served, served_classifier):
    functions = {**served.functions, **served_classifier.functions}
    for name, function in functions.items():
        for shape in ((0,),) if "image" in name else ((0,), (0, 2)):
            outputs = function(tf.zeros(shape, tf.string))
            assert all(value.shape[0] == 0 for value in outputs.values()), name


def test_the_crop_is_that_of_the_run(embedder):
    image = picture(0, (2 * SIZE, 2 * SIZE))
    middle = slice(SIZE // 2, SIZE // 2 + SIZE)
    pixels = np.asarray(image)[middle, middle]
    expected = embedder.backbone({"images": pixels[None] / 255})["image_sequence"][:, 0]
    served = ServedModel(dataclasses.replace(embedder, central_crop=0.5))
    found = served.functions["embed_image"]([encoded(image, "PNG")])["embedding"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_is_no_image(served):
    jpeg = encoded(picture(0), quality=95)
    for data in (b"", b"no image", jpeg[: len(jpeg) // 2]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            served.functions["classify_image"]([jpeg, data])
