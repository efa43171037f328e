"""What Figure 6 shows: validation images and masked sentences, and what networks predict."""

import dataclasses
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_vitbert.inspection.drawing import spread
from keras_vitbert.model.pretraining_network import image_inputs, text_inputs
from keras_vitbert.runs.record_errors import reading
from pipelines.text.wordpiece import CLS

TOP = 5  # answers that are shown
_TOKENS = 34  # tokens of a text that are shown
_GAPS = 4  # masked words of a text that are shown


class Answer(NamedTuple):
    """An answer of a network, and whether it is the true one."""

    name: str
    probability: float
    is_true: bool


def likeliest(logits, names, truth):
    """The `TOP` likeliest answers, the likeliest first.

    Args:
        logits: `(answers,)`.
        names: list of str; an answer beyond them has no name and is left out.
        truth: int, the index of the true answer.

    Returns:
        list of `Answer`.
    """
    logits = np.asarray(logits, np.float64)
    exponentials = np.exp(logits - logits.max())
    probabilities = exponentials / exponentials.sum()
    order = np.argsort(-probabilities[: len(names)], kind="stable")[:TOP].tolist()
    return [Answer(names[n], float(probabilities[n]), n == truth) for n in order]


@dataclasses.dataclass(frozen=True, eq=False)
class ImageExample:
    """A validation image.

    Attributes:
        number: int, in the order of the files.
        image: uint8 `(size, size, 3)`, as the network sees it.
        label: str, its true class.
        answers: dict of a run's name to a list of `Answer`.
    """

    number: int
    image: np.ndarray
    label: str
    answers: dict[str, list[Answer]]


@dataclasses.dataclass(frozen=True)
class TextExample:
    """A part of a validation text with some of its masked words, or of a text that is classified.

    Attributes:
        number: int, in the order of the files.
        words: list of (str, int): a word as the network sees it, and the number of its gap, from
            1; 0 where there is none.
        truth: list of str, the true word of every gap, or the one true class.
        answers: dict of a run's name to a list of `Answer` of every gap, or of the class.
        asked: str, what is predicted: `word` or `class`.
    """

    number: int
    words: list[tuple[str, int]]
    truth: list[str]
    answers: dict[str, list[list[Answer]]]
    asked: str = "word"


def image_examples(data, classes, networks, wanted):
    """Validation images and what networks predict.

    Args:
        data: `keras_vitbert.experiments.pretraining.data.Data`.
        classes: list of str.
        networks: dict of a run's name to a `PreTrainingNetwork` that takes such images.
        wanted: int, how many at most, evenly spread.

    Returns:
        list of `ImageExample`.
    """
    numbers = spread(range(data.image_validation.records.count), wanted)
    with reading(data):
        batch = _read(data.image_validation, numbers)
    inputs = image_inputs(batch)
    logits = _logits(networks, inputs, "image_logits")
    images = keras.ops.convert_to_numpy(inputs["images"])
    return [
        ImageExample(
            number,
            np.rint(np.clip(images[row], 0, 1) * 255).astype(np.uint8),
            classes[label],
            {name: likeliest(found[row], classes, label) for name, found in logits.items()},
        )
        for row, (number, label) in enumerate(
            zip(numbers, batch["image_labels"].numpy().tolist(), strict=True)
        )
    ]


def text_examples(data, vocabulary, networks, wanted):
    """Parts of validation texts with gaps, and what networks fill these with.

    Args:
        data: `keras_vitbert.experiments.pretraining.data.Data`.
        vocabulary: list of str.
        networks: dict of a run's name to a `PreTrainingNetwork` that takes such texts.
        wanted: int, how many at most, evenly spread.

    Returns:
        list of `TextExample`.
    """
    numbers = spread(range(data.text_validation.records.count), wanted)
    with reading(data):
        batch = _read(data.text_validation, numbers)
    logits = _logits(networks, text_inputs(batch), "mlm_logits")
    examples = []
    for row, number in enumerate(numbers):
        text = {name: value[row].numpy() for name, value in batch.items()}
        words, gaps = shown_part(text, vocabulary)
        truth = text["masked_ids"][gaps].tolist()
        answers = {
            name: [
                likeliest(found[row, gap], vocabulary, true)
                for gap, true in zip(gaps, truth, strict=True)
            ]
            for name, found in logits.items()
        }
        examples.append(TextExample(number, words, [vocabulary[t] for t in truth], answers))
    return examples


def shown_part(text, vocabulary):
    """The beginning of a text with its first few gaps.

    The class token is left out. Pieces of words are joined, except where one is a gap. A gap may
    look like any other word: masking keeps some words, and replaces some by another word.

    Args:
        text: dict of arrays of one example, as `TextStream` gives them.
        vocabulary: list of str.

    Returns:
        (list of (word, number of the gap or 0), list of int, the index of each gap among the masked
        positions). Where the text continues, the last word is an ellipsis.
    """
    is_gap = text["masked_weights"] > 0
    places = {int(place): gap for gap, place in enumerate(text["masked_positions"]) if is_gap[gap]}
    words, gaps = [], []
    tokens = text["token_ids"][text["padding_mask"] > 0].tolist()
    for place, token in enumerate(tokens):
        piece = vocabulary[token] if token < len(vocabulary) else f"[{token}]"
        if piece == CLS and place == 0:
            continue
        if place == _TOKENS or (place in places and len(gaps) == _GAPS):
            words.append(("…", 0))
            break
        if place in places:
            gaps.append(places[place])
            words.append((piece, len(gaps)))
        elif piece.startswith("##") and words and not words[-1][1]:
            words[-1] = (words[-1][0] + piece.removeprefix("##"), 0)
        else:
            words.append((piece, 0))
    return words, gaps


def _read(source, numbers):
    """A batch of the validation examples with the given numbers."""
    rows = [next(iter(source.validation(number, number + 1))) for number in numbers]
    return tf.nest.map_structure(lambda *values: tf.stack(values), *rows)


def _logits(networks, inputs, name):
    return {
        run: keras.ops.convert_to_numpy(network(inputs, training=False)[name])
        for run, network in networks.items()
    }
