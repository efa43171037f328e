"""The choice of a signature, and that every item gets its own answer."""

from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.trained.predicting import Item, choose, predict
from keras_vitbert.trained.served_model import ServedModel
from tests.pipelines.image_fixtures import encoded, picture

ALL = ("classify_image", "classify_text", "fill_mask", "embed_image", "embed_text")
IMAGE, TEXT = Item({"image": "x.jpg"}, "x.jpg"), Item({"text": "the cat"}, "the text")
MASKED = Item({"text": "the cat", "text_pair": "sat [MASK]"}, "the text")


@pytest.mark.parametrize(
    ("functions", "items", "expected"),
    [
        (ALL, [IMAGE], "classify_image"),
        (ALL, [TEXT, TEXT], "classify_text"),
        (ALL, [TEXT, MASKED], "fill_mask"),
        (("classify_text", "embed_text"), [MASKED], "classify_text"),  # a mask is a word to it
        (("fill_mask", "embed_text"), [TEXT], "fill_mask"),  # which says what is missing
    ],
)
def test_the_question_follows_from_what_is_asked_about(functions, items, expected):
    assert choose(dict.fromkeys(functions), items, "m") == expected


@pytest.mark.parametrize(
    ("functions", "item", "kind"),
    [
        (("embed_image",), IMAGE, "images"),
        (("embed_text",), TEXT, "texts"),
    ],
)
def test_questions_that_a_model_does_not_answer(functions, item, kind):
    with pytest.raises(ValueError, match=f"^m: has no head for {kind}"):
        choose(dict.fromkeys(functions), [item], "m")


@pytest.mark.parametrize("batch", [2, 100])
def test_answers_come_in_the_order_of_the_items(batch):
    """Those of like length are asked about together, by a function that knows what it saw."""
    texts = ["ccc", "a", "bb", "dddd", "e", ""]
    asked = []

    def classify(text):
        words = [value.decode() for value in text.numpy().tolist()]
        asked.append(words)
        scores = np.tile(np.float32([0.7, 0.2, 0.1]), (len(words), 1))
        labels = [[f"{word}{rank}".encode() for rank in range(3)] for word in words]
        return {
            "top_k_labels": tf.constant(labels),
            "top_k_probabilities": tf.constant(scores),
        }

    items = [Item({"text": text}, f"line {n}") for n, text in enumerate(texts)]
    found = predict({"classify_text": classify}, "classify_text", items, batch, top_k=2)
    assert [prediction.inputs["text"] for prediction in found] == texts
    for text, prediction in zip(texts, found, strict=True):
        assert prediction.answers == [[(f"{text}0", 0.7), (f"{text}1", 0.2)]]
        assert not prediction.is_masked
    lengths = [len(text) for words in asked for text in words]
    assert lengths == sorted(lengths) and max(map(len, asked)) == min(batch, len(texts))


def test_rows_are_filled_up_to_the_most_masks():
    def fill(text):
        return {
            "tokens": tf.constant([[[b"x", b"y"], [b"z", b"u"]], [[b"v", b"w"], [b"", b""]]]),
            "scores": tf.constant([[[0.5, 0.25], [1, 0]], [[0.125, 0], [0, 0]]], tf.float32),
        }

    items = [Item({"text": "[MASK] [MASK]"}, "1"), Item({"text": "the long [MASK]"}, "2")]
    first, second = predict({"fill_mask": fill}, "fill_mask", items)
    assert first.answers == [[("x", 0.5), ("y", 0.25)], [("z", 1.0), ("u", 0.0)]]
    assert second.answers == [[("v", 0.125), ("w", 0.0)]]
    assert first.is_masked and second.is_masked


def test_the_one_of_a_batch_that_cannot_be_read_is_named(served, tmp_path):
    content = encoded(picture(0), quality=95)
    for name, data in (("a.jpg", content), ("b.jpg", content[:-400]), ("c.jpg", content)):
        (tmp_path / name).write_bytes(data)
    items = [Item({"image": str(path)}, path.name) for path in sorted(tmp_path.iterdir())]
    with pytest.raises(ValueError, match=r"^b\.jpg: is not a readable image"):
        predict(served.functions, "classify_image", items)
    left_out = []
    assert len(predict(served.functions, "classify_image", items, left_out=left_out)) == 2
    [line] = left_out
    assert line.startswith("b.jpg: is not a readable image")
    items[1:2] = []
    assert len(predict(served.functions, "classify_image", items)) == 2


def test_answers_that_are_not_finite(make_trained):
    """No item is to blame, so none is left out."""
    trained = make_trained("image", seed=3)
    kernel = trained.backbone.image_embedding.patch_projection.kernel
    kernel.assign(np.full(kernel.shape, 1e38))
    items = [Item({"image": "x"}, "x.jpg")]
    functions = ServedModel(trained, 2).functions
    content = encoded(picture(0))
    left_out = []
    with mock.patch.object(Item, "value", lambda _: content):
        with pytest.raises(ValueError, match=r"^runs/it: its answer to x\.jpg is not finite"):
            predict(functions, "classify_image", items, left_out=left_out, path="runs/it")
    assert left_out == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (encoded(picture(0))[:300], "JPEG"),
        (b"text", "JPEG.*required"),
    ],
)
def test_what_is_wrong_with_an_image(served, tmp_path, content, reason):
    """What TensorFlow says, without the names of graphs and nodes, or the lines of their code."""
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"x: is not a readable image \(.*{reason}.*\)") as error:
        predict(served.functions, "classify_image", [Item({"image": str(path)}, "x")])
    assert not any(word in str(error.value) for word in ("{{", "[[", "\n", "Graph", "File"))
