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


def test_words_and_gaps():
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing", "the", "##s"]
    text = {
        "token_ids": np.array([2, 7, 5, 6, 4, 8, 3, 8, 7, 6, 3, 0, 0]),
        "padding_mask": np.arange(13) < 11,
        "masked_positions": np.array([9, 4, 0]),
        "masked_weights": np.array([1, 1, 0]),
    }
    words, gaps = shown_part(text, vocabulary)
    assert words == [
        *(("the", 0), ("playing", 0), ("[MASK]", 1)),
        ("##s", 0),  # what it belongs to is not known
        *(("[SEP]", 0), ("##s", 0), ("the", 0)),  # where a text was cut
        ("##ing", 2),  # exchanged, or left as it was
        ("[SEP]", 0),
    ]
    assert gaps == [1, 0]


@pytest.mark.slow
def test_examples_are_what_the_network_says(older_run):
    def asked(source, example, inputs_of):
        """The row of an example, and its logits."""
        [row] = list(source.validation(example.number, example.number + 1))
        inputs = inputs_of({name: value[None] for name, value in row.items()})
        outputs = older_run.trained.network(inputs)
        return row, {name: keras.ops.convert_to_numpy(x)[0] for name, x in outputs.items()}

    source = older_run.data.image_validation
    found = examples_of({"run": older_run}, "images", 3)
    assert [example.number for example in found] == [0, 3, 6]
    for example in found:
        row, logits = asked(source, example, image_inputs)
        truth = int(row["image_labels"])
        assert example.truth == [CLASS_NAMES[truth]]
        wanted = likeliest(logits["image_logits"], CLASS_NAMES, truth)
        for answer, other in zip(example.answers["run"][0], wanted, strict=True):
            assert answer == (other.name, pytest.approx(other.probability), other.is_true)

    source = older_run.data.text_validation
    found = examples_of({"run": older_run}, "text", 2)
    assert sum(len(example.truth) for example in found) > 2
    for example in found:
        row, logits = asked(source, example, text_inputs)
        weights, positions = row["masked_weights"].numpy(), row["masked_positions"].numpy()
        for gap, place in enumerate(np.argsort(positions[weights > 0])):
            assert example.truth[gap] == VOCABULARY[row["masked_ids"].numpy()[place]]
            best = np.argmax(logits["mlm_logits"][place][: len(VOCABULARY)])
            assert example.answers["run"][gap][0].name == VOCABULARY[best]
