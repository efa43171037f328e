"""What Figure 6 shows of examples and of answers."""

import math

import keras
import numpy as np
import pytest

from keras_vitbert.extras.paper_figures.examples import examples_of, likeliest, shown_part
from keras_vitbert.model.pretraining_network import image_inputs, text_inputs
from tests.keras_vitbert.tiny_runs import CLASS_NAMES, VOCABULARY


def test_answers():
    logits = np.array([0.0, 3.0, -1.0, 2.0, 1.0, 0.5, 9.0])
    found = likeliest(logits, ["a", "b", "c", "d", "e", "f"], 3)  # the seventh has no name
    assert [answer.name for answer in found] == ["b", "d", "e", "f", "a"]
    total = sum(math.exp(value) for value in logits)
    expected = [math.exp(value) / total for value in (3, 2, 1, 0.5, 0)]
    assert [answer.probability for answer in found] == pytest.approx(expected)
    assert [answer.is_true for answer in found] == [False, True, False, False, False]
    assert likeliest([1.0, 1.0], ["a", "b"], 0) == [("a", 0.5, True), ("b", 0.5, False)]


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing", "the", "##s"]


def text(ids, positions, weights=None, length=12):
    padding = np.arange(length) < len(ids)
    return {
        "token_ids": np.array([*ids, *[0] * (length - len(ids))]),
        "padding_mask": padding.astype(np.int32),
        "masked_positions": np.array(positions),
        "masked_weights": np.array(weights or [1.0] * len(positions), np.float32),
    }


def test_words_and_gaps():
    words, gaps = shown_part(text([2, 7, 5, 6, 4, 8, 3, 7, 6, 3], [8, 4, 0], [1, 1, 0]), WORDS)
    assert words == [
        ("the", 0),
        ("playing", 0),
        ("[MASK]", 1),
        ("##s", 0),  # what it belongs to is not known
        ("[SEP]", 0),
        ("the", 0),
        ("##ing", 2),  # exchanged, or left as it was
        ("[SEP]", 0),
    ]
    assert gaps == [1, 0]


@pytest.mark.slow
def test_examples_are_what_the_network_says(older_run):
    source = older_run.data.image_validation
    found = examples_of({"run": older_run}, "images", 3)
    assert [example.number for example in found] == [0, 3, 6]
    for example in found:
        (row,) = list(source.validation(example.number, example.number + 1))
        inputs = image_inputs({"images": row["images"][None]})
        logits = keras.ops.convert_to_numpy(older_run.trained.network(inputs)["image_logits"])[0]
        order = np.argsort(-logits)
        assert example.truth == [CLASS_NAMES[int(row["image_labels"])]]
        names, probabilities, _ = zip(*example.answers["run"][0], strict=True)
        assert names == tuple(CLASS_NAMES[place] for place in order)
        expected = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(probabilities, expected[order], rtol=1e-5)

    source = older_run.data.text_validation
    found = examples_of({"run": older_run}, "text", 2)
    assert sum(len(example.truth) for example in found) > 2
    for example in found:
        (row,) = list(source.validation(example.number, example.number + 1))
        inputs = {name: value[None] for name, value in text_inputs(row).items()}
        logits = keras.ops.convert_to_numpy(older_run.trained.network(inputs)["mlm_logits"])[0]
        weights, positions = row["masked_weights"].numpy(), row["masked_positions"].numpy()
        for gap, place in enumerate(np.argsort(positions[weights > 0])):
            assert example.truth[gap] == VOCABULARY[row["masked_ids"].numpy()[place]]
            answer = example.answers["run"][gap][0]
            assert answer.name == VOCABULARY[np.argmax(logits[place][: len(VOCABULARY)])]
