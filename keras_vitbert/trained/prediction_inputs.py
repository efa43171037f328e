"""The inputs of `predict`: image files, a text, or the rows of a table."""

import dataclasses
import itertools

import tensorflow as tf

from pipelines.files import natural, walk
from pipelines.images import SUFFIXES
from pipelines.images.image_sources import read_bytes
from pipelines.tasks.labelled_rows import SENTENCES, find_columns
from pipelines.tasks.tables import open_table


@dataclasses.dataclass(frozen=True)
class Item:
    """One thing to predict.

    Attributes:
        inputs: dict of str, as in the output: `image`, or `text` and optionally `text_pair`.
        where: str, its source, for messages.
        path: str, the file of an image that `inputs` names relative to a folder.
    """

    inputs: dict[str, str]
    where: str
    path: str = ""

    @property
    def length(self):
        """int; a batch of similar lengths needs little padding."""
        return 0 if "image" in self.inputs else sum(map(len, self.inputs.values()))

    def value(self):
        """The model's input.

        Returns:
            bytes of an image, a str, or a list of two.

        Raises:
            OSError: the file cannot be read.
        """
        if "image" in self.inputs:
            return read_bytes(self.path or self.inputs["image"])
        texts = list(self.inputs.values())
        return texts if len(texts) > 1 else texts[0]


def image_items(path):
    """An image, or all images below a folder, in the natural order of their names.

    Those of a folder are named relative to it, as in `predictions.csv` of a fine-tuned run.

    Args:
        path: str, local or `gs://`.

    Returns:
        iterator of `Item`; a folder of a million images is not listed first. It raises `ValueError`
        at a folder that cannot be listed.

    Raises:
        ValueError: there is no image.
    """
    if not tf.io.gfile.exists(path):
        raise ValueError(f"{path}: no such file or folder")
    if not tf.io.gfile.isdir(path):
        return iter([Item({"image": path}, path)])
    files = _images_below(path)
    first = next(files, None)
    if first is None:
        raise ValueError(f"{path}: holds no file named {', '.join(SUFFIXES)}")
    begin = len(path.rstrip("/")) + 1
    return (Item({"image": file[begin:]}, file, file) for file in itertools.chain([first], files))


def _images_below(path):
    """The images below a folder, in the natural order of names, a folder's own images first."""
    for folder, folders, names in walk(path):
        folders.sort(key=natural)
        for name in sorted(names, key=natural):
            if name.lower().endswith(SUFFIXES):
                yield f"{folder.rstrip('/')}/{name}"


def text_items(text, pair=None):
    """A text, or a pair of texts.

    Args:
        text: str.
        pair: str, the second text, or None.

    Returns:
        list of one `Item`.
    """
    inputs = {"text": text} if pair is None else {"text": text, "text_pair": pair}
    return [Item(inputs, "the text")]


def table_items(path, columns=(), remembered=()):
    """The sentences of a table, without labels.

    Args:
        path: str, local or `gs://`, see `pipelines.tasks.tables`.
        columns: sequence of one or two names; the usual ones if empty.
        remembered: sequence of str, the columns that the model was trained on; they come before the
            usual ones where the table has them.

    Returns:
        list of `Item`, one per row.

    Raises:
        ValueError: it cannot be read, a column is missing or not one of two, or a row is damaged.
    """
    if len(columns) > 2 or len(set(columns)) < len(columns):
        raise ValueError(f"columns={','.join(columns)}: give one or two different names")
    table = open_table(path)
    if not columns and remembered and set(remembered) <= set(table.columns):
        columns = remembered
    names = find_columns(table, columns, SENTENCES, "columns")
    items = []
    for row in table.read(names):
        where = f"{path}, {table.unit} {row.number}"
        missing = [name for name, text in zip(names, row.values, strict=False) if text is None]
        if row.damage or missing:
            reason = row.damage or f"{missing[0]!r} is empty"
            raise ValueError(f"{where}: {reason}")
        texts = [text.strip() for text in row.values]
        items.append(Item(dict(zip(("text", "text_pair"), texts, strict=False)), where))
    if not items:
        raise ValueError(f"{path}: holds no examples")
    return items
