"""What Figure 6 shows: validation images and masked sentences, and what networks say of them."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from keras_vitbert.model.pretraining_network import image_inputs, text_inputs
from keras_vitbert.runs.record_errors import reading
from pipelines.image_stream import ImageStream
from pipelines.text.wordpiece import CLS
from pipelines.text_stream import TextStream

TOP = 5  # answers that are shown
_TOKENS = 34  # tokens of a text that are shown
_GAPS = 4  # masked words of a text that are shown


@dataclasses.dataclass(frozen=True)
class Answers:
    """The likeliest answers of a network.

    Attributes:
        names: list of str, the likeliest first.
        probabilities: list of float, of each.
        correct: list of bool, whether it is the true one.
    """

    names: list[str]
    probabilities: list[float]
    correct: list[bool]

    @classmethod
    def of(cls, logits, names, truth):
        """The `TOP` likeliest of some logits.

        Args:
            logits: `(answers,)`.
            names: list of str; what is beyond them has none, and is left out.
            truth: int, which is the true one.
        """
        logits = np.asarray(logits, np.float64)
        exponentials = np.exp(logits - logits.max())
        probabilities = exponentials / exponentials.sum()
        order = np.argsort(-probabilities[: len(names)], kind="stable")[:TOP].tolist()
        return cls(
            [names[place] for place in order],
            [float(probabilities[place]) for place in order],
            [place == truth for place in order],
        )


@dataclasses.dataclass(frozen=True, eq=False)
class ImageExample:
    """A validation image.

    Attributes:
        number: int, in the order of the files.
        image: uint8 `(size, size, 3)`, as the network sees it.
        label: str, its true class.
        answers: dict of a run's name to `Answers`.
    """

    number: int
    image: np.ndarray
    label: str
    answers: dict[str, Answers]


@dataclasses.dataclass(frozen=True)
class TextExample:
    """A part of a validation text with some of its masked words.

    Attributes:
        number: int, in the order of the files.
        words: list of (str, int): a word as the network sees it, and the number of the gap that it
            is, counted from 1; 0 for none.
        truth: list of str, the true word of every gap.
        answers: dict of a run's name to a list of `Answers`, of every gap.
    """

    number: int
    words: list[tuple[str, int]]
    truth: list[str]
    answers: dict[str, list[Answers]]


def evenly(count, wanted):
    """The numbers of up to `wanted` of `count` examples, evenly spread from the first on."""
    wanted = min(count, wanted)
    return [place * count // wanted for place in range(wanted)]


def image_examples(source, classes, networks, wanted):
    """Images of a source and what networks say of them.

    Args:
        source: `ImageStream`.
        classes: list of str.
        networks: dict of a run's name to a `PreTrainingNetwork` that takes such images.
        wanted: int, how many; see `evenly`.

    Returns:
        list of `ImageExample`.
    """
    numbers = evenly(source.records.count, wanted)
    batch = _read(source, "image_validation", numbers)
    logits = _logits(networks, image_inputs(batch), "image_logits")
    images = keras.ops.convert_to_numpy(image_inputs(batch)["images"])
    return [
        ImageExample(
            number,
            np.rint(np.clip(images[row], 0, 1) * 255).astype(np.uint8),
            classes[label],
            {name: Answers.of(found[row], classes, label) for name, found in logits.items()},
        )
        for row, (number, label) in enumerate(
            zip(numbers, batch["image_labels"].numpy().tolist(), strict=True)
        )
    ]


def text_examples(source, vocabulary, networks, wanted):
    """Parts of texts of a source with gaps, and what networks fill these with.

    Args:
        source: `TextStream`.
        vocabulary: list of str.
        networks: dict of a run's name to a `PreTrainingNetwork` that takes such texts.
        wanted: int, how many; see `evenly`.

    Returns:
        list of `TextExample`.
    """
    numbers = evenly(source.records.count, wanted)
    batch = _read(source, "text_validation", numbers)
    logits = _logits(networks, text_inputs(batch), "mlm_logits")
    examples = []
    for row, number in enumerate(numbers):
        text = {name: value[row].numpy() for name, value in batch.items()}
        words, gaps = shown_part(text, vocabulary)
        truth = text["masked_ids"][gaps].tolist()
        answers = {
            name: [
                Answers.of(found[row, gap], vocabulary, true)
                for gap, true in zip(gaps, truth, strict=True)
            ]
            for name, found in logits.items()
        }
        examples.append(TextExample(number, words, [vocabulary[t] for t in truth], answers))
    return examples


def shown_part(text, vocabulary):
    """The beginning of a text with its first few gaps.

    The class token is left out. Pieces of words are joined, except where one is a gap. A masked
    word may look like any other: some are left as they are or exchanged for another word, and count
    as gaps too.

    Args:
        text: dict of arrays of one example, as `TextStream` gives them.
        vocabulary: list of str.

    Returns:
        (list of (word, number of the gap or 0), list of int: which of the masked positions the
        gaps are). Where the text goes on, the last word is an ellipsis.
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


def _read(source, role, numbers):
    """A batch of the examples with some numbers."""
    sources = dict.fromkeys(("images", "image_validation", "texts", "text_validation"))
    with reading(_Sources(**{**sources, role: source})):
        rows = [next(iter(source.validation(number, number + 1))) for number in numbers]
    return tf.nest.map_structure(lambda *values: tf.stack(values), *rows)


@dataclasses.dataclass(frozen=True)
class _Sources:
    """What `reading` looks for damage in."""

    images: ImageStream | None
    image_validation: ImageStream | None
    texts: TextStream | None
    text_validation: TextStream | None


def _logits(networks, inputs, name):
    return {
        run: keras.ops.convert_to_numpy(network(inputs, training=False)[name])
        for run, network in networks.items()
    }
