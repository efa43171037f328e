import functools
import io
import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_vitbert.trained.served_model import ServedModel
from keras_vitbert.trained.trained_model import TrainedModel
from pipelines.tasks.labelled_texts import LabelledTexts
from tests.keras_vitbert.trained.served_models import CLASSES, VOCABULARY
from tests.pipelines.image_fixtures import cmyk, encoded, picture

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


def test_signatures_are_those_that_there_are_heads_for(served, served_classifier, make_trained):
    found = {name: list(model.functions) for name, model in [("both", served)]}
    assert found["both"] == ["classify_image", "fill_mask", "embed_image", "embed_text"]
    assert list(served_classifier.functions) == ["classify_text", "embed_text"]
    assert list(ServedModel(make_trained(text=False)).functions) == ["embed_image"]


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


def test_masks_of_a_pair(served):
    found = numbers(served.functions["fill_mask"](tf.constant([["the cat", "[MASK] sat"]])))
    assert found["tokens"].shape == (1, 1, 2) and found["scores"].min() > 0


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


def many_colours():
    return np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 4), dtype=np.uint8)


def image_kinds():
    """Name to (encoded image, the pixels that Pillow makes of it)."""
    smooth, colours = picture(0, (SIZE, SIZE)), many_colours()
    deep = np.random.default_rng(1).integers(0, 2**16, (SIZE, SIZE), dtype=np.uint16)
    kinds = {
        "grey JPEG": encoded(smooth.convert("L"), quality=95),
        "CMYK JPEG": cmyk(smooth),
        "grey PNG": encoded(smooth.convert("L"), "PNG"),
        "palette": encoded(smooth.quantize(16), "PNG"),
        "alpha": encoded(Image.fromarray(colours), "PNG"),
        "grey with alpha": encoded(Image.fromarray(colours[..., :2], "LA"), "PNG"),
        "animated GIF": encoded(
            smooth.quantize(16),
            "GIF",
            save_all=True,
            append_images=[picture(1, (SIZE, SIZE)).quantize(16)],
        ),
        "one pixel": encoded(Image.fromarray(colours[:1, :1, :3]), "PNG"),
    }
    kinds = {
        name: (data, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
        for name, data in kinds.items()
    }
    # Pillow cuts deep grey off at 255; their upper byte is meant.
    kinds["16 bits"] = encoded(Image.fromarray(deep), "PNG"), (deep >> 8)[..., None]
    return kinds


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


@pytest.mark.parametrize("kind", sorted(image_kinds()))
def test_kinds_of_images(decode, kind):
    data, expected = image_kinds()[kind]
    expected = np.broadcast_to(expected, (SIZE, SIZE, 3)).astype(float)
    most = 1 if "CMYK" in kind else 0  # where ink and black are multiplied
    assert np.abs(decode(data) - expected).max() < most + 1e-3


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


def test_bfloat16_is_near(make_trained):
    trained = make_trained("image", text=False)
    images = [encoded(picture(seed, (SIZE, SIZE)), "PNG") for seed in range(3)]
    low = trained.in_dtype("bfloat16")
    assert {v.dtype for v in low.backbone.weights} == {"bfloat16"}
    expected, found = (
        numbers(ServedModel(each).functions["classify_image"](images)) for each in (trained, low)
    )
    assert found["probabilities"].dtype == np.float32
    # bfloat16 keeps 8 bits.
    np.testing.assert_allclose(found["probabilities"], expected["probabilities"], atol=0.02)
    assert not np.array_equal(found["probabilities"], expected["probabilities"])
