"""Labelled sentences in TSV files: GLUE's own, and others with a line of column names.

Fields are separated by tabs and not quoted, as in GLUE: a quotation mark is part of its sentence.
"""

import dataclasses
import os

import tensorflow as tf

from pipelines.command_line import UserError
from pipelines.files import reading

LABELS = (("label",), ("gold_label",), ("is_duplicate",), ("Quality",))
SENTENCES = (
    ("sentence1", "sentence2"),
    ("question", "sentence"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("#1 String", "#2 String"),
    ("sentence",),
    ("text",),
)
TRAIN = "train.tsv"
# Names of a development split: names that its file may have.
DEVELOPMENT = {
    "validation": ("dev.tsv", "validation.tsv", "valid.tsv"),
    "validation_matched": ("dev_matched.tsv",),
    "validation_mismatched": ("dev_mismatched.tsv",),
}


@dataclasses.dataclass(frozen=True)
class LabelledRows:
    """Sentences, or pairs of them, and the names of their classes.

    Attributes:
        source: str, where they come from, for messages.
        first: tuple of str.
        second: tuple of str, or None where there are single sentences.
        labels: tuple of str.
        damaged: tuple of str: lines that were left out, and why.
    """

    source: str
    first: tuple[str, ...]
    second: tuple | None
    labels: tuple[str, ...]
    damaged: tuple[str, ...] = ()


def find_files(folder):
    """The TSV files of a folder.

    Args:
        folder: str, local or `gs://`.

    Returns:
        dict of the name of a split to a path: `train`, and those of `DEVELOPMENT` that exist.

    Raises:
        UserError: there is no training file.
    """
    if not tf.io.gfile.isdir(folder):
        raise UserError(f"--data_dir={folder}: no such folder; give one that holds {TRAIN}")
    found = {"train": os.path.join(folder, TRAIN)}
    if not tf.io.gfile.exists(found["train"]):
        raise UserError(
            f"--data_dir={folder}: holds no {TRAIN}; write the training sentences there, a line "
            "each, below a line of column names"
        )
    for split, names in DEVELOPMENT.items():
        for name in names:
            path = os.path.join(folder, name)
            if split not in found and tf.io.gfile.exists(path):
                found[split] = path
    return found


def read_rows(path, sentence_columns=(), label_column="", max_bad_records=0):
    """Reads a file whose first line names its columns.

    Args:
        path: str, local or `gs://`.
        sentence_columns: one or two names, or empty for the usual ones.
        label_column: str, or empty for the usual one.
        max_bad_records: int, how many lines with a wrong number of fields or no label may be left
            out.

    Returns:
        `LabelledRows`.

    Raises:
        UserError: a column is missing, a line has a wrong number of fields or no label, or there
            is no line at all.
    """
    header, *lines = read_lines(path)
    columns = header.split("\t")
    wanted = [label_column] if label_column else []
    flag = "--config.data.label_column"
    [label] = find_columns(path, columns, wanted, LABELS, "label", flag)
    flag = "--config.data.sentence_columns"
    sentences = find_columns(path, columns, sentence_columns, SENTENCES, "sentence", flag)
    if label in sentences:
        raise UserError(
            f"{path}: {columns[label]!r} is the label and a sentence; fix "
            "--config.data.sentence_columns or --config.data.label_column"
        )
    fields, damaged = [], []
    for number, line in enumerate(lines, 2):
        values = line.split("\t")
        reason = ""
        if len(values) != len(columns):
            reason = f"{len(values)} fields, expected {len(columns)}"
        elif not values[label].strip() or not values[label].strip().isprintable():
            reason = f"the label is {values[label]!r}, expected a word"
        if reason:
            reason = f"{path}, line {number}: {reason}"
            if len(damaged) >= max_bad_records:
                raise UserError(
                    f"{reason} ({', '.join(columns)}); fix the line, or leave it out with "
                    "--max_bad_records=N"
                )
            damaged.append(reason)
            continue
        fields.append([values[place].strip() for place in (*sentences, label)])
    if not fields:
        raise UserError(f"{path}: holds no line below the names of the columns; fill it")
    *texts, labels = map(tuple, zip(*fields, strict=True))
    return LabelledRows(
        path, texts[0], texts[1] if len(texts) > 1 else None, labels, tuple(damaged)
    )


def read_lines(path):
    """Reads a text file.

    Args:
        path: str, local or `gs://`.

    Returns:
        list of str, the lines, at least one, without the empty ones at its end.

    Raises:
        UserError: it cannot be read, or is not UTF-8.
    """
    with reading(path) as (stream, _):
        content = stream.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {number}: no UTF-8; convert the file") from error
    # Not `splitlines`: sentences hold characters that it takes for line ends.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    while len(lines) > 1 and not lines[-1]:
        lines.pop()
    return lines


def find_columns(path, columns, wanted, usual, what, flag):
    """The places of the wanted columns, or of the first usual ones that are all present.

    Args:
        path: str, the file, for messages.
        columns: list of str, the names in its first line.
        wanted: sequence of str, names; empty for the usual ones.
        usual: sequence of tuples of str, the usual names.
        what: str, what the columns hold, for messages.
        flag: str, the flag that names them, for messages.

    Returns:
        list of int.

    Raises:
        UserError: a column is missing.
    """
    for names in [wanted] if wanted else usual:
        if set(names) <= set(columns):
            return [columns.index(name) for name in names]
    there = ", ".join(columns)
    if wanted:
        missing = next(name for name in wanted if name not in columns)
        raise UserError(f"{path}: has no column {missing!r} but {there}; fix {flag}")
    known = ", ".join(" + ".join(names) for names in usual)
    raise UserError(f"{path}: has no {what} column ({known}) but {there}; name it by {flag}")
