"""The choice of a signature, and that every item gets its own answer."""

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.trained.predicting import Item, choose, predict

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


def answer(text, scores=(0.7, 0.2, 0.1)):
    """What a model says that knows what it saw."""
    words = [value.decode() for value in text.numpy().tolist()]
    return {
        "top_k_labels": tf.constant([[f"{word}{rank}" for rank in range(3)] for word in words]),
        "top_k_probabilities": tf.constant([scores] * len(words), tf.float32),
    }


@pytest.mark.parametrize("batch", [2, 100])
def test_answers_come_in_the_order_of_the_items(batch):
    """Those of like length are asked about together."""
    texts = ["ccc", "a", "bb", "dddd", "e", ""]
    asked = []

    def classify(text):
        asked.append([len(word) for word in text.numpy().tolist()])
        return answer(text)

    items = [Item({"text": text}, f"line {n}") for n, text in enumerate(texts)]
    found = predict({"classify_text": classify}, "classify_text", items, batch, top_k=2)
    assert [prediction.inputs["text"] for prediction in found] == texts
    for text, prediction in zip(texts, found, strict=True):
        assert prediction.answers == [[(f"{text}0", 0.7), (f"{text}1", 0.2)]]
        assert not prediction.is_masked
    assert sum(asked, []) == sorted(map(len, texts))
    assert max(map(len, asked)) == min(batch, len(texts))


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


def test_answers_that_are_not_finite_are_no_fault_of_an_item():
    functions = {"classify_text": lambda text: answer(text, (np.nan, 0.2, 0.1))}
    left_out = []
    with pytest.raises(ValueError, match=r"^runs/it: its answer to the text is not finite"):
        predict(functions, "classify_text", [TEXT], left_out=left_out, path="runs/it")
    assert left_out == []
