"""What is predicted, by which function of a model, trained or exported, and its answers."""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from keras_vitbert.trained.finding import EXPORT, find
from keras_vitbert.trained.loading import open_source
from keras_vitbert.trained.served_model import (
    CLASSIFY_IMAGE,
    CLASSIFY_TEXT,
    FILL_MASK,
    ServedModel,
    input_name,
)
from pipelines.command_line import one_line
from pipelines.digests import check_sums
from pipelines.files import natural, walk
from pipelines.images import SUFFIXES
from pipelines.images.image_sources import read_bytes
from pipelines.status import counted, say
from pipelines.tasks.labelled_rows import SENTENCES, find_columns
from pipelines.tasks.tables import open_table
from pipelines.text import tf_text
from pipelines.text.wordpiece import MASK

Functions = dict[str, Callable]


@dataclasses.dataclass(frozen=True)
class Item:
    """One thing to predict."""

    inputs: dict[str, str]  # as in the output: `image`, or `text` and optionally `text_pair`
    where: str  # its source, for messages
    path: str = ""  # of an image that `inputs` names relative to a folder

    @property
    def length(self) -> int:
        """A batch of similar lengths needs little padding."""
        return 0 if "image" in self.inputs else sum(map(len, self.inputs.values()))

    def value(self) -> bytes | str | list[str]:
        """The model's input: an encoded image, a text, or a pair of texts."""
        if "image" in self.inputs:
            return read_bytes(self.path or self.inputs["image"])
        texts = list(self.inputs.values())
        return texts if len(texts) > 1 else texts[0]


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A model's answers to an image or a text."""

    inputs: dict[str, str]  # from its `Item`
    is_masked: bool  # whether masks were filled
    # Classes or tokens with their probabilities, the likeliest first; one list for each mask, or a
    # single list
    answers: list[list[tuple[str, float]]]


def image_items(path: str) -> Iterator[Item]:
    """An image, or all images below a folder, in the natural order of their names.

    Those of a folder are named relative to it, as in `predictions.csv` of a fine-tuned run. A
    folder of a million images is not listed first.
    """
    if not tf.io.gfile.isdir(path):
        return iter([Item({"image": path}, path)])
    items = _images_below(path)
    first = next(items, None)
    if first is None:
        raise ValueError(f"{path}: holds no file named {', '.join(SUFFIXES)}")
    return itertools.chain([first], items)


def _images_below(path: str) -> Iterator[Item]:
    """The images below a folder, a folder's own images first."""
    for folder, folders, names in walk(path):
        folders.sort(key=natural)
        for name in sorted(names, key=natural):
            if name.lower().endswith(SUFFIXES):
                file = f"{folder.rstrip('/')}/{name}"
                yield Item({"image": file[len(path.rstrip("/")) + 1 :]}, file, file)


def text_items(text: str, pair: str | None = None) -> list[Item]:
    """A text, or a pair of texts."""
    inputs = {"text": text} if pair is None else {"text": text, "text_pair": pair}
    return [Item(inputs, "the text")]


def table_items(
    path: str, columns: Sequence[str] = (), remembered: Sequence[str] = ()
) -> list[Item]:
    """The sentences of a table, without labels, see `pipelines.tasks.tables`.

    Without one or two names of columns, they are those `remembered` from the model's training,
    where the table has them, or else the usual ones.
    """
    if len(columns) > 2 or len(set(columns)) < len(columns):
        raise ValueError(f"columns={','.join(columns)}: give one or two different names")
    table = open_table(path)
    if table.guess:
        say(f"notice: {table.guess}")
    if not columns and remembered and set(remembered) <= set(table.columns):
        columns = remembered
    names = find_columns(table, columns, SENTENCES, "columns")
    items = []
    for row in table.read(names):
        where = f"{path}, {table.unit} {row.number}"
        missing = [name for name, text in zip(names, row.values, strict=False) if text is None]
        if row.damage or missing:
            raise ValueError(f"{where}: {row.damage or f'{missing[0]!r} is empty'}")
        texts = [text.strip() for text in row.values]
        items.append(Item(dict(zip(("text", "text_pair"), texts, strict=False)), where))
    if not items:
        raise ValueError(f"{path}: holds no examples")
    return items


def open_functions(path: str, top_k: int) -> Functions:
    """The functions of a model by their signatures, see `ServedModel`.

    Of a folder that `export` wrote for a model, the latest version is used.
    """
    source = find(path)
    if source.kind != EXPORT:
        return ServedModel(open_source(source), top_k).functions
    check_sums(source.path)
    tf_text.find()  # registers operations of the graph
    try:
        return dict(tf.saved_model.load(source.path).signatures.items())
    # An IndexError if the file of the variables is too short, a RuntimeError if the graph has
    # unknown operations.
    except (OSError, ValueError, IndexError, RuntimeError, tf.errors.OpError) as error:
        if "Op type not registered" in str(error):
            tf_text.require(f"{source.path}: takes text, and")
        raise ValueError(f"{source.path}: cannot be loaded ({one_line(error)})") from error


def choose(functions: Functions, items: Sequence[Item], path: str) -> str:
    """Chooses the signature: masks are filled if the texts have any and the model can."""
    what = "images" if "image" in items[0].inputs else "texts"
    wanted = [CLASSIFY_IMAGE]
    if what == "texts":
        has_mask = any(MASK in text for item in items for text in item.inputs.values())
        wanted = [FILL_MASK, CLASSIFY_TEXT] if has_mask else [CLASSIFY_TEXT, FILL_MASK]
    for signature in wanted:
        if signature in functions:
            return signature
    raise ValueError(f"{path}: has no head for {what}; fine-tune it on some, or give another")


def predict(
    functions: Functions,
    signature: str,
    items: Sequence[Item],
    batch: int = 32,
    top_k: int = 5,
    left_out: list[str] | None = None,
    path: str = "the model",
) -> list[Prediction]:
    """Predicts all items, in their order.

    A message is appended to `left_out` for each item that cannot be predicted; without such a list,
    the first one is an error. `path` is that of the model, for messages.
    """
    # A batch is padded to its longest text.
    order = sorted(range(len(items)), key=lambda number: items[number].length)
    predictions, complaints, fills = {}, {}, signature == FILL_MASK
    for start in counted(range(0, len(order), batch), -(-len(order) // batch)):
        numbers = order[start : start + batch]
        asked = _ask(functions[signature], signature, [items[number] for number in numbers])
        for number, answers in zip(numbers, asked, strict=True):
            if isinstance(answers, str):
                if left_out is None:
                    raise ValueError(answers)
                complaints[number] = answers
                continue
            if not all(math.isfinite(score) for some in answers for _, score in some):
                raise ValueError(f"{path}: its answer to {items[number].where} is not finite")
            best = [some[:top_k] for some in answers]
            predictions[number] = Prediction(items[number].inputs, fills, best)
    if left_out is not None:
        left_out += [complaints[number] for number in sorted(complaints)]
    return [predictions[number] for number in sorted(predictions)]


def _ask(
    function: Callable, signature: str, items: Sequence[Item]
) -> list[str | list[list[tuple[str, float]]]]:
    """The answers for each item, or what is wrong with it."""
    try:
        values = [item.value() for item in items]
        outputs = function(**{input_name(signature): tf.constant(values)})
    except (OSError, tf.errors.InvalidArgumentError) as error:
        if len(items) > 1:  # TensorFlow does not say which image is damaged
            return [_ask(function, signature, [item])[0] for item in items]
        return [f"{items[0].where}: {_reason(error)}"]
    arrays = {name: value.numpy() for name, value in outputs.items()}
    if signature != FILL_MASK:
        rows = zip(arrays["top_k_labels"], arrays["top_k_probabilities"], strict=True)
        return [[_pairs(*row)] for row in rows]
    return [
        [_pairs(*mask) for mask in zip(*row, strict=True) if mask[0][0]]  # "" pads the rows
        for row in zip(arrays["tokens"], arrays["scores"], strict=True)
    ]


def _pairs(names: Iterable[bytes], scores: Iterable[float]) -> list[tuple[str, float]]:
    """Names and scores; a float has the digits of its float32."""
    return [
        (name.decode(errors="replace"), float(str(np.float32(score))))
        for name, score in zip(names, scores, strict=True)
    ]


def _reason(error: OSError | tf.errors.OpError) -> str:
    """What is wrong with an input."""
    if isinstance(error, OSError):
        return f"cannot be read ({one_line(error)})"
    if asserted := re.search(r"assertion failed: \[text \d+ (.*)\]\n", error.message):
        return f"{asserted[1]}; write {MASK} in place of a word, early in the text"
    # It follows the trace, or the name of the graph, and precedes that of the node.
    reason = re.sub(r"\{\{.*?\}\}", "", error.message.partition("[[")[0]).strip().split("\n")[-1]
    return f"is not a readable image ({reason})"
