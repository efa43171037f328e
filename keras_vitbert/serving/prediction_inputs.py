"""The inputs of `predict`: image files, a text, or the lines of a TSV file."""

import dataclasses

import tensorflow as tf

from pipelines.command_line import UserError, one_line
from pipelines.images.image_lists import read_bytes
from pipelines.images.image_sources import SUFFIXES
from pipelines.tasks.tsv_files import SENTENCES, find_columns, read_lines


@dataclasses.dataclass(frozen=True)
class Item:
    """One thing to predict.

    Attributes:
        inputs: dict of str, as in the output: `image`, or `text` and optionally `text_pair`.
        where: str, its source, for messages.
    """

    inputs: dict[str, str]
    where: str

    @property
    def length(self):
        """int; a batch of similar lengths needs little padding."""
        return 0 if "image" in self.inputs else sum(map(len, self.inputs.values()))

    def value(self):
        """The model's input.

        Returns:
            bytes of an image, a str, or a list of two.

        Raises:
            UserError: the file cannot be read.
        """
        if "image" in self.inputs:
            path = self.inputs["image"]
            try:
                return read_bytes(path)
            except OSError as error:
                raise UserError(
                    f"{path}: cannot be read ({one_line(error)}); fix the path"
                ) from error
        texts = list(self.inputs.values())
        return texts if len(texts) > 1 else texts[0]


def image_items(path):
    """An image, or all images below a folder, sorted by name.

    Args:
        path: str, local or `gs://`.

    Returns:
        list of `Item`.

    Raises:
        UserError: there is no image.
    """
    if not tf.io.gfile.exists(path):
        raise UserError(f"--image={path}: no such file; give an image or a folder of images")
    if not tf.io.gfile.isdir(path):
        return [Item({"image": path}, path)]
    files = sorted(
        f"{folder.rstrip('/')}/{name}"
        for folder, _, names in tf.io.gfile.walk(path)
        for name in names
        if name.lower().endswith(SUFFIXES)
    )
    if not files:
        raise UserError(f"--image={path}: holds no file named {', '.join(SUFFIXES)}; give another")
    return [Item({"image": file}, file) for file in files]


def text_items(text, pair=None):
    """A text, or a pair of texts.

    Args:
        text: str.
        pair: str, the second text, or None.

    Returns:
        list of one `Item`.

    Raises:
        UserError: it is not UTF-8.
    """
    try:
        f"{text}{pair}".encode()
    except UnicodeEncodeError as error:
        raise UserError("--text: not UTF-8; convert it, or give it in a --file") from error
    inputs = {"text": text} if pair is None else {"text": text, "text_pair": pair}
    return [Item(inputs, "--text")]


def tsv_items(path, columns=()):
    """The sentences of a TSV file, as in `pipelines.tasks.tsv_files` but without labels.

    Args:
        path: str, local or `gs://`.
        columns: sequence of one or two names; the usual ones if empty.

    Returns:
        list of `Item`, one a line.

    Raises:
        UserError: it cannot be read, a column is missing or not one of two, or a line has another
            number of fields.
    """
    if len(columns) > 2 or len(set(columns)) < len(columns):
        raise UserError(f"--columns={','.join(columns)}: give one or two different names")
    header, *lines = read_lines(path)
    names = header.split("\t")
    places = find_columns(path, names, columns, SENTENCES, "sentence", "--columns=A,B")
    if not lines:
        raise UserError(f"{path}: holds no line below the names of the columns; fill it")
    items = []
    for number, line in enumerate(lines, 2):
        fields = line.split("\t")
        if len(fields) != len(names):
            raise UserError(
                f"{path}, line {number}: {len(fields)} fields, expected {len(names)} "
                f"({', '.join(names)}); fix the line"
            )
        texts = [fields[place].strip() for place in places]
        inputs = dict(zip(("text", "text_pair"), texts, strict=False))
        items.append(Item(inputs, f"{path}, line {number}"))
    return items
