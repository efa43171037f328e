"""What Figure 6 shows: held-out examples, and what runs answer."""

import dataclasses
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_vitbert.extras.paper_figures.runs import FineTunedRun, PretrainedRun
from keras_vitbert.inspection.drawing import spread
from keras_vitbert.model.pretraining_network import image_inputs, text_inputs
from keras_vitbert.runs.damaged_records import reading
from pipelines.text.wordpiece import CLS, SEP

TOP = 5  # answers that are shown
_TOKENS = 34  # tokens of a text that is masked are shown
_GAPS = 4  # and its masked words
_WORDS = 60  # of a text that is classified
_PLACES = ("path", "line", "row", "record")  # columns of predictions that name an example
_TEXTS = ("text", "text_pair")


class Answer(NamedTuple):
    """An answer of a network, and whether it is the true one."""

    name: str
    probability: float
    is_true: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """An image or a text."""

    number: int  # in the order of the files
    truth: list[str]  # its class, or the true word of every gap
    answers: dict[str, list[list[Answer]]]  # by a run's name: of the class, or of every gap
    image: np.ndarray | None = None  # uint8 `(size, size, 3)`, as the network sees it
    words: list[tuple[str, int]] = dataclasses.field(default_factory=list)  # see `shown_part`
    asked: str = "class"  # what is predicted: `class` or `word`


def examples_of(
    runs: dict[str, PretrainedRun | FineTunedRun], modality: str, wanted: int
) -> list[Example]:
    """At most `wanted` examples of `images` or `text`, evenly spread, and the runs' answers."""
    tuned = {name: run for name, run in runs.items() if isinstance(run, FineTunedRun)}
    if tuned:
        return _of_tuned(tuned, modality, wanted)
    trained = {name: run for name, run in runs.items() if isinstance(run, PretrainedRun)}
    return _of_pretrained(trained, modality, wanted)


def _of_pretrained(runs: dict[str, PretrainedRun], modality: str, wanted: int) -> list[Example]:
    """Validation examples of the first run; texts have gaps, which networks fill."""
    first, is_image = next(iter(runs.values())), modality == "images"
    data = first.data
    source: Any = data.image_validation if is_image else data.text_validation
    numbers = spread(range(source.records.count), wanted)
    with reading(data):
        rows = [next(iter(source.validation(number, number + 1))) for number in numbers]
    batch = tf.nest.map_structure(lambda *values: tf.stack(values), *rows)
    inputs = image_inputs(batch) if is_image else text_inputs(batch)
    names = first.classes if is_image else first.trained.vocabulary or []
    logits: dict[str, Any] = {}
    for name, run in runs.items():
        network: Any = run.trained.network
        outputs = network(inputs, training=False)
        logits[name] = keras.ops.convert_to_numpy(
            outputs["image_logits"][:, None] if is_image else outputs["mlm_logits"]
        )
    examples = []
    for place, (number, row) in enumerate(zip(numbers, rows, strict=True)):
        if is_image:
            image = np.asarray(keras.ops.convert_to_numpy(inputs["images"][place]))
            shown: dict[str, Any] = {"image": np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)}
            truth, gaps = [int(row["image_labels"])], [0]
        else:
            text = {name: value.numpy() for name, value in row.items()}
            words, gaps = shown_part(text, names)
            truth, shown = text["masked_ids"][gaps].tolist(), {"words": words, "asked": "word"}
        answers = {
            name: [likeliest(some[place, g], names, t) for g, t in zip(gaps, truth, strict=True)]
            for name, some in logits.items()
        }
        examples.append(Example(number, [names[t] for t in truth], answers, **shown))
    return examples


def likeliest(logits: np.ndarray, names: list[str], truth: int) -> list[Answer]:
    """The `TOP` likeliest answers by `(answers,)` logits, the likeliest first.

    An answer beyond the names is left out; `truth` is the index of the true one.
    """
    logits = np.asarray(logits, np.float64)
    exponentials = np.exp(logits - logits.max())
    probabilities = exponentials / exponentials.sum()
    order = np.argsort(-probabilities[: len(names)], kind="stable")[:TOP].tolist()
    return [Answer(names[n], float(probabilities[n]), n == truth) for n in order]


def shown_part(
    text: dict[str, np.ndarray], vocabulary: list[str]
) -> tuple[list[tuple[str, int]], list[int]]:
    """The beginning of a text with its first few gaps.

    The class token is left out. Pieces of words are joined, except where one is a gap. A gap may
    look like any other word: masking keeps some words, and replaces some by another word.

    Returns:
        Words with the number of the gap or 0, and the index of each gap among the masked positions.
        Where the text continues, the last word is an ellipsis.
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
        elif piece.startswith("##") and words and not words[-1][1] and words[-1][0] != SEP:
            words[-1] = (words[-1][0] + piece.removeprefix("##"), 0)
        else:
            words.append((piece, 0))
    return words, gaps


def _of_tuned(runs: dict[str, FineTunedRun], modality: str, wanted: int) -> list[Example]:
    """Examples from the predictions of fine-tuned runs."""
    first = next(iter(runs.values()))
    numbers = spread(range(len(first.rows)), wanted)
    for name, run in runs.items():
        same = len(run.rows) == len(first.rows)
        if not same or any(_key(run.rows[n]) != _key(first.rows[n]) for n in numbers):
            raise ValueError(f"{name}: its predictions are not of the examples of the other runs")
    examples = []
    for number in numbers:
        row = first.rows[number]
        shown: dict[str, Any] = {"image": first.image(row)} if modality == "images" else {}
        if modality == "text":
            words = " | ".join(row[column] for column in _TEXTS if row.get(column)).split()
            words = words[:_WORDS] + ["…"] * (len(words) > _WORDS)
            shown = {"words": [(word, 0) for word in words]}
        answers = {name: [predicted(run.rows[number])] for name, run in runs.items()}
        examples.append(Example(number, [row["label"]], answers, **shown))
    return examples


def _key(row: dict[str, str]) -> list[str | None]:
    """What distinguishes an example from the others."""
    return [row.get(column) for column in (*_PLACES, *_TEXTS, "label")]


def predicted(row: dict[str, str]) -> list[Answer]:
    """The likeliest classes in a row of predictions, the likeliest first."""
    begin = "probability_"
    pairs = [(name.removeprefix(begin), row[name]) for name in row if name.startswith(begin)]
    if "top_1" in row:  # of many classes the file has the likeliest alone, by their rank
        pairs = [(row[f"top_{rank}"], value) for rank, value in pairs if row[f"top_{rank}"]]
    answers = [Answer(name, float(value), name == row["label"]) for name, value in pairs]
    return sorted(answers, key=lambda answer: -answer.probability)[:TOP]
