"""Labelled examples of tables: which columns hold them, and which hold their classes."""

import dataclasses
import os
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

from pipelines.tasks.tables import Row, Table

# The usual names of columns, GLUE's first; compared without regard to case.
LABELS = [
    [name]
    for name in (
        "label gold_label is_duplicate Quality labels class category target sentiment intent topic "
        "rating"
    ).split()
]
_TEXTS = "sentence text review comment tweet message content body utterance question title".split()
SENTENCES = [
    ["sentence1", "sentence2"],
    ["question", "sentence"],
    ["question1", "question2"],
    ["premise", "hypothesis"],
    ["#1 String", "#2 String"],
    *([name] for name in _TEXTS),
]
# Columns of images: their bytes, or their paths.
IMAGES = [
    [name]
    for name in (
        "image img image_path img_path image_file image_name path file_path filepath file "
        "file_name filename"
    ).split()
]


@dataclasses.dataclass(frozen=True)
class LabelledRows:
    """Sentences, or pairs of them, and the names of their classes."""

    source: str  # for messages
    first: tuple[str, ...]
    second: tuple[str, ...] | None
    labels: tuple[str, ...]
    left_out: tuple[str, ...] = ()  # what is wrong with each row that is not here
    places: tuple[str, ...] = ()  # the line or row of each
    # Those that were read, of a table.
    sentence_columns: tuple[str, ...] = ()
    label_column: str = ""

    @property
    def count(self) -> int:
        return len(self.labels)

    @property
    def keys(self) -> list[tuple[Hashable, ...]]:
        """The texts of each row; the place of one without any, which is no copy of another."""
        rows = zip(self.first, self.second or self.first, strict=True)
        return [row if "".join(row).strip() else (place,) for place, row in enumerate(rows)]

    @property
    def texts(self) -> list[str]:
        """The texts of each row, joined."""
        pairs = zip(self.first, self.second or (), strict=True)
        return [*self.first] if self.second is None else [*map(" ".join, pairs)]

    def example_name(self, place: int) -> str:
        """The line of a row."""
        return f"line {self.places[place]}" if self.places else f"row {place + 1}"

    def class_names(self, classes: Sequence[str]) -> tuple[str, ...]:
        """The class of each row."""
        return self.labels

    def part(self, indices: Iterable[int]) -> "LabelledRows":
        """Some of the rows, in the order of `indices`."""

        def some(values: tuple[str, ...] | None) -> tuple[str, ...] | None:
            return tuple(values[index] for index in indices) if values else values

        names = ("first", "second", "labels", "places")
        return dataclasses.replace(self, **{name: some(getattr(self, name)) for name in names})

    def descriptions(self) -> Iterator[dict[str, str]]:
        """What identifies each row."""
        for index, text in enumerate(self.first):
            row = {"line": self.places[index]} if self.places else {}
            row["text"] = text
            yield row if self.second is None else {**row, "text_pair": self.second[index]}


def read_rows(
    tables: Sequence[Table],
    sentence_columns: Sequence[str] = (),
    label_column: str = "",
    skip_damaged: int = 0,
) -> LabelledRows:
    """Reads the sentences and classes of the tables of a split, which have the same columns.

    Args:
        sentence_columns: one or two names, or empty for the usual ones.
        label_column: empty for the usual one.
        skip_damaged: how many rows that are damaged or have no label may be left out.
    """
    sentences, label = _text_columns(tables[0], sentence_columns, label_column)

    def columns(table: Table) -> list[str]:
        _text_columns(table, sentences, label)  # refuses a table that lacks one
        return [*sentences, label]

    def problem(table: Table, texts: list[Any]) -> str:
        empty = [name for name, text in zip(sentences, texts, strict=True) if text is None]
        return f"{empty[0]!r} is empty" if empty else ""

    rows, left_out = whole_rows(tables, columns, problem, skip_damaged)
    fields = ([value.strip() for value in row.values] for _, row in rows)
    *texts, labels = map(tuple, zip(*fields, strict=True))
    source, places = tables[0].path, (str(row.number) for _, row in rows)
    if len(tables) > 1:
        source += f" and {len(tables) - 1} more"
        places = (f"{os.path.basename(table.path)}:{row.number}" for table, row in rows)
    second = texts[1] if len(texts) > 1 else None
    rest = tuple(left_out), tuple(places), tuple(sentences), label
    return LabelledRows(source, texts[0], second, labels, *rest)


def whole_rows(
    tables: Sequence[Table],
    columns: Callable[[Table], list[str]],
    problem: Callable[[Table, list], str],
    skip_damaged: int,
) -> tuple[list[tuple[Table, Row]], list[str]]:
    """The rows that are whole and have a label, each with its table; and what is wrong with others.

    Args:
        columns: names the columns of a table to read, the label's last.
        problem: says what is wrong with the values before the label; empty if nothing is.
        skip_damaged: how many rows may be left out.
    """
    whole, left_out = [], []
    for table in tables:
        for row in table.read(columns(table)):
            reason = row.damage or problem(table, row.values[:-1]) or _problem(row.values[-1])
            if not reason:
                whole.append((table, row))
                continue
            reason = f"{table.path}, {table.unit} {row.number}: {reason}"
            if len(left_out) >= skip_damaged:
                raise ValueError(f"{reason}; fix the {table.unit}, or raise skip_damaged")
            left_out.append(reason)
    if not whole:
        raise ValueError(f"{tables[0].path}: holds no examples")
    return whole, left_out


def _problem(label: Any) -> str:
    """What is wrong with a label; a class without a name would be trained."""
    if isinstance(label, str) and label.strip() and label.strip().isprintable():
        return ""
    return f"the label is {label!r}, expected a word"


def numbered(
    labels: Sequence[str], classes: list[str] | None, source: str
) -> tuple[list[int], list[str]]:
    """The class numbers of labels, and the classes: those of the labels unless they are given."""
    classes = sorted(set(labels), key=_class_order) if classes is None else classes
    numbers = {name: number for number, name in enumerate(classes)}
    for label in labels:
        if label not in numbers:
            raise ValueError(
                f"{source}: {label!r} is not one of the {len(classes):,} classes of the training "
                "examples"
            )
    return [numbers[label] for label in labels], classes


def _class_order(name: str) -> tuple[bool, int, str]:
    """Sort key for the names of classes: numbers by value, and before words."""
    is_number = re.fullmatch("-?[0-9]{1,4300}", name) is not None  # Python reads no longer ones
    return not is_number, int(name) if is_number else 0, name


def _text_columns(
    table: Table, sentence_columns: Sequence[str] = (), label_column: str = ""
) -> tuple[list[str], str]:
    """The columns of sentences, one or two, and of classes; empty arguments mean the usual names.

    If there are two columns, and only one of the two roles has a usual name, the other column takes
    the other role.
    """
    columns = table.columns
    label = [label_column] if label_column else usual_columns(columns, LABELS)
    rest = [name for name in columns if [name] != label]
    sentences = list(sentence_columns) or usual_columns(rest, SENTENCES)
    if len(columns) == 2 and bool(label) != bool(sentences) and len(sentences) < 2:
        other = [name for name in columns if name not in (label or sentences)][:1]
        label, sentences = label or other, sentences or other
    [label] = find_columns(table, label, LABELS, "data.label_column")
    sentences = find_columns(table, sentences, SENTENCES, "data.sentence_columns")
    if label in sentences:
        raise ValueError(f"{table.path}: {label!r} is the label and a sentence")
    return sentences, label


def image_columns(table: Table, image_column: str = "", label_column: str = "") -> list[str]:
    """The columns of images and of classes; empty arguments mean the usual names."""
    usual = [[name] for name in table.image_columns] or IMAGES
    wanted = [image_column] if image_column else []
    [image] = find_columns(table, wanted, usual, "data.image_column")
    rest = [name for name in table.columns if name != image]
    wanted = [label_column] if label_column else rest if len(rest) == 1 else []
    return [image, *find_columns(table, wanted, LABELS, "data.label_column")]


def find_columns(
    table: Table, wanted: Sequence[str], usual: Iterable[Sequence[str]], setting: str
) -> list[str]:
    """The wanted columns, or if none is named the first usual ones that are all present.

    `setting` is where the user may name them.
    """
    columns = list(wanted) or usual_columns(table.columns, usual)
    missing = [repr(name) for name in columns if name not in table.columns]
    if missing or not columns:
        known = ", ".join(" + ".join(names) for names in usual)
        raise ValueError(
            f"{table.path}: has {f'no column {missing[0]}' if missing else f'none of {known}'} but "
            f"{', '.join(table.columns)}; name one of these in {setting}"
        )
    return columns


def usual_columns(columns: Sequence[str], usual: Iterable[Sequence[str]]) -> list[str]:
    """The first usual columns that are all present, spelled as in `columns`; else empty."""
    written = {name.strip().lower(): name for name in reversed(columns)}
    for names in usual:
        if {name.lower() for name in names} <= written.keys():
            return [written[name.lower()] for name in names]
    return []
