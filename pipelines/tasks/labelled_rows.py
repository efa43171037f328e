"""Labelled sentences from tables: which columns hold them, and which hold their classes."""

import dataclasses
import os
import re

# The usual names of columns, GLUE's first; compared without regard to case.
LABELS = tuple(
    (name,)
    for name in (
        *("label", "gold_label", "is_duplicate", "Quality"),
        *("labels", "class", "category", "target", "sentiment", "intent", "topic", "rating"),
    )
)
SENTENCES = (
    ("sentence1", "sentence2"),
    ("question", "sentence"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("#1 String", "#2 String"),
    *(
        (name,)
        for name in (
            *("sentence", "text", "review", "comment", "tweet", "message", "content", "body"),
            *("utterance", "question", "title"),
        )
    ),
)


@dataclasses.dataclass(frozen=True)
class LabelledRows:
    """Sentences, or pairs of them, and the names of their classes.

    Attributes:
        source: str, where they come from, for messages.
        first: tuple of str.
        second: tuple of str, or None where there are single sentences.
        labels: tuple of str.
        damaged: tuple of str: rows that were left out, and why.
        places: tuple of str, where in the source each is: its line or row.
        sentence_columns: tuple of str, the columns that were read; empty if not a table.
        label_column: str, likewise.
    """

    source: str
    first: tuple[str, ...]
    second: tuple | None
    labels: tuple[str, ...]
    damaged: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    sentence_columns: tuple[str, ...] = ()
    label_column: str = ""

    def part(self, indices):
        """Some of the rows.

        Args:
            indices: iterable of int, in the order in which they come out.

        Returns:
            `LabelledRows`.
        """

        def some(values):
            return tuple(values[index] for index in indices) if values else values

        columns = {name: some(getattr(self, name)) for name in ("first", "second", "labels")}
        return dataclasses.replace(self, **columns, places=some(self.places))

    def descriptions(self):
        """What identifies each row: iterator of dicts of str."""
        for index, text in enumerate(self.first):
            row = {"line": self.places[index]} if self.places else {}
            row["text"] = text
            yield row if self.second is None else {**row, "text_pair": self.second[index]}


def read_rows(table, sentence_columns=(), label_column="", max_bad_records=0):
    """Reads the sentences and classes of a table.

    Args:
        table: `pipelines.tasks.tables.Table`.
        sentence_columns: one or two names, or empty for the usual ones.
        label_column: str, or empty for the usual one.
        max_bad_records: int, how many rows that are damaged or have no label may be left out.

    Returns:
        `LabelledRows`.

    Raises:
        ValueError: a column is missing, a row is damaged or has no label, or there is no row.
    """
    sentences, label = choose_columns(table, sentence_columns, label_column)
    fields, damaged, places = [], [], []
    for row in table.read([*sentences, label]):
        reason = row.damage
        if not reason:
            *texts, name = row.values
            missing = [
                column for column, text in zip(sentences, texts, strict=True) if text is None
            ]
            if missing:
                reason = f"{missing[0]!r} is empty"
            else:
                reason = label_problem(name)
        if reason:
            where = f"{table.path}, {table.unit} {row.number}"
            keep_damaged(damaged, f"{where}: {reason}", max_bad_records, table.unit)
            continue
        fields.append([value.strip() for value in row.values])
        places.append(str(row.number))
    if not fields:
        raise ValueError(f"{table.path}: holds no examples; fill it")
    *texts, labels = map(tuple, zip(*fields, strict=True))
    second = texts[1] if len(texts) > 1 else None
    rest = tuple(damaged), tuple(places), tuple(sentences), label
    return LabelledRows(table.path, texts[0], second, labels, *rest)


def read_split(tables, sentence_columns=(), label_column="", max_bad_records=0):
    """Reads the tables that a split consists of.

    Args:
        tables: sequence of `pipelines.tasks.tables.Table`.
        sentence_columns, label_column, max_bad_records: as in `read_rows`, over all tables.

    Returns:
        `LabelledRows`; for several tables, the places hold the file as well.

    Raises:
        ValueError: see `read_rows`.
    """
    parts = []
    for table in tables:
        part = read_rows(table, sentence_columns, label_column, max_bad_records)
        max_bad_records -= len(part.damaged)
        sentence_columns, label_column = part.sentence_columns, part.label_column
        parts.append(part)
    first, *rest = parts
    if not rest:
        return first
    joined = {
        name: tuple(value for part in parts for value in getattr(part, name))
        for name in ("first", "labels", "damaged")
    }
    if first.second is not None:
        joined["second"] = tuple(value for part in parts for value in part.second)
    joined["places"] = tuple(
        f"{os.path.basename(part.source)}:{place}" for part in parts for place in part.places
    )
    return dataclasses.replace(first, source=f"{first.source} and {len(rest)} more", **joined)


def label_problem(label):
    """What is wrong with a label.

    Args:
        label: str, bytes or None, from a table.

    Returns:
        str; empty if it can be the name of a class.
    """
    if isinstance(label, str) and label.strip() and label.strip().isprintable():
        return ""
    return f"the label is {label!r}, expected a word"


def keep_damaged(damaged, reason, most, unit):
    """Notes a damaged row.

    Args:
        damaged: list of str, to which it is appended.
        reason: str, where it is and what is wrong.
        most: int, how many may be damaged.
        unit: str, `line` or `row`.

    Raises:
        ValueError: it is one too many.
    """
    if len(damaged) >= most:
        raise ValueError(f"{reason}; fix the {unit}, or leave it out with --max_bad_records=N")
    damaged.append(reason)


def choose_columns(table, sentence_columns=(), label_column=""):
    """The columns of sentences and of classes.

    If there are two columns, and only one of the two roles has a usual name, the other column takes
    the other role.

    Args:
        table: `pipelines.tasks.tables.Table`.
        sentence_columns, label_column: as in `read_rows`.

    Returns:
        (list of one or two str, str).

    Raises:
        ValueError: a column is missing, or is both.
    """
    path, columns = table.path, table.columns
    label = [label_column] if label_column else _usual(columns, LABELS)
    sentences = list(sentence_columns) or _usual([c for c in columns if [c] != label], SENTENCES)
    if len(columns) == 2 and bool(label) != bool(sentences) and len(sentences) < 2:
        [other] = [name for name in columns if name not in (label or sentences)][:1] or [""]
        label, sentences = label or [other], sentences or [other]
    flag = "--config.data.label_column"
    [label] = find_columns(path, columns, label, LABELS, "label", flag)
    flag = "--config.data.sentence_columns"
    sentences = find_columns(path, columns, sentences, SENTENCES, "sentence", flag)
    if label in sentences:
        raise ValueError(
            f"{path}: {label!r} is the label and a sentence; fix "
            "--config.data.sentence_columns or --config.data.label_column"
        )
    return sentences, label


def find_columns(path, columns, wanted, usual, what, flag):
    """The wanted columns, or the first usual ones that are all present.

    Args:
        path: str, the file, for messages.
        columns: list of str, those that the file has.
        wanted: sequence of str, names; empty for the usual ones.
        usual: sequence of tuples of str, the usual names.
        what: str, what the columns hold, for messages.
        flag: str, the flag that names them, for messages.

    Returns:
        list of str.

    Raises:
        ValueError: a column is missing.
    """
    found = list(wanted) or _usual(columns, usual)
    there = ", ".join(columns)
    if not found:
        known = ", ".join(" + ".join(names) for names in usual)
        raise ValueError(f"{path}: has no {what} column ({known}) but {there}; name it with {flag}")
    for name in found:
        if name not in columns:
            raise ValueError(f"{path}: has no column {name!r} but {there}; fix {flag}")
    return found


def _usual(columns, usual):
    """The first usual columns that are all present, spelled as in `columns`; else empty."""
    written = {name.strip().lower(): name for name in reversed(columns)}
    for names in usual:
        if {name.lower() for name in names} <= written.keys():
            return [written[name.lower()] for name in names]
    return []


def class_order(name):
    """Sort key for the names of classes: numbers by value, and before words.

    Args:
        name: str.
    """
    is_number = re.fullmatch("-?[0-9]{1,4300}", name) is not None  # Python reads no longer ones
    return not is_number, int(name) if is_number else 0, name
