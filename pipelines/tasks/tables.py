"""Tables of examples in common formats: TSV, CSV, JSON lines and Parquet, and saved data sets.

| file | is read as |
| --- | --- |
| `.tsv` | fields separated by tabs, not quoted: a quotation mark is part of its field, as in GLUE |
| `.csv` | RFC 4180; if the first line has no comma, semicolons, tabs or vertical bars separate |
| `.jsonl`, `.ndjson`, `.json` | one object per line, or one list of objects |
| `.parquet` | by `pyarrow` |
| a folder | by Hugging Face's `datasets`, whose `save_to_disk` wrote it |

The first line of a TSV or CSV file names its columns.
"""

import collections
import csv
import dataclasses
import functools
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pipelines.command_line import install, one_line
from pipelines.files import reading
from pipelines.text_tables import csv_reader

SUFFIXES = (".tsv", ".csv", ".jsonl", ".ndjson", ".json", ".parquet")
_ROWS_AT_ONCE = 1_000  # of Arrow's tables
# The first one in a CSV file's first line.
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can spell one; UTF-8 cannot


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table."""

    number: int  # from 1: its line in the file, or its place among the rows
    values: list[Any]  # str, bytes or None (nothing is there), one for each column asked for
    damage: str = ""  # what is wrong with the row


@dataclasses.dataclass(frozen=True)
class Table:
    """A file of rows."""

    path: str
    columns: list[str]
    unit: str  # what a row's number counts: `line` or `row`
    # For some columns, yields each row's number and its values, or what is wrong with it.
    rows: Callable[[list[str]], Iterator[tuple[int, list[Any] | str]]]
    image_columns: list[str] = dataclasses.field(default_factory=list)  # of encoded images
    guess: str = ""  # what was guessed of its form

    def __post_init__(self) -> None:
        if not any(self.columns):
            raise ValueError(f"{self.path}: is empty, or its first {self.unit} is")
        for name, count in collections.Counter(self.columns).items():
            if count > 1:
                raise ValueError(f"{self.path}: has {count} columns {name!r}")

    def read(self, names: list[str]) -> Iterator[Row]:
        """Yields some columns of each row."""
        for number, values in self.rows(names):
            damaged = isinstance(values, str)
            yield Row(number, [], values) if damaged else _row(number, values, names)


def is_table(path: str) -> bool:
    """Whether a file is a table, by its name."""
    return path.lower().endswith(SUFFIXES)


def open_table(path: str) -> Table:
    """Opens a table, local or `gs://`."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: is not a table, which ends with {', '.join(SUFFIXES)}")
    if suffix == ".parquet":
        return _open_parquet(path)
    with reading(path) as (stream, _):
        content = stream.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {number}: not valid UTF-8") from error
    return (_separated if suffix in (".tsv", ".csv") else _json)(path, text)


def open_saved(folder: str) -> Table:
    """Opens a saved data set of one split; its rows stay on disk until they are read."""
    try:
        import datasets
    except ImportError as error:
        raise ValueError(
            f"{folder}: reading it needs datasets; run: {install('datasets')}"
        ) from error
    try:
        saved: Any = datasets.load_from_disk(folder)  # a `Dataset`
        arrow: Any = saved.with_format("arrow")[:]
    except Exception as error:  # of any damage: it fails in many ways
        raise ValueError(f"{folder}: {type(error).__name__}: {one_line(error)[:200]}") from error

    def batches(names: list[str]) -> Iterable[Any]:
        return arrow.select(names).to_batches(max_chunksize=_ROWS_AT_ONCE)

    return _arrow(folder, arrow.schema, batches, saved.features.to_dict())


def _separated(path: str, text: str) -> Table:
    guess = ""
    if path.lower().endswith(".tsv"):
        lines = functools.partial(_tsv_lines, text)
    else:
        header = text.partition("\n")[0]
        delimiter = next((mark for mark in _DELIMITERS if mark in header), ",")
        if delimiter != ",":
            guess = f"{path}: its columns are separated by {_DELIMITERS[delimiter]}"
        lines = functools.partial(_csv_lines, path, text, delimiter)
    columns = next(lines(), (1, [""]))[1]
    expected = f"fields, expected {len(columns)} ({', '.join(columns)})"

    def rows(names: list[str]) -> Iterator[tuple[int, list[Any] | str]]:
        places = [columns.index(name) for name in names]
        for number, fields in itertools.islice(lines(), 1, None):
            whole = len(fields) == len(columns)
            yield number, [fields[n] for n in places] if whole else f"{len(fields)} {expected}"

    return Table(path, columns, "line", rows, guess=guess)


def _tsv_lines(text: str) -> Iterator[tuple[int, list[str]]]:
    # Not `splitlines`: sentences hold characters that it takes for line ends.
    for number, line in enumerate(text.rstrip("\r\n").split("\n"), 1):
        yield number, line.removesuffix("\r").split("\t")


def _csv_lines(path: str, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv_reader(text, delimiter=delimiter, strict=True)
    last = 0
    try:
        for fields in reader:
            if fields:  # not an empty line
                yield last + 1, fields
            last = reader.line_num
    except csv.Error as error:  # of quotation marks
        raise ValueError(f"{path}, line {last + 1}: {error}") from error


def _json(path: str, text: str) -> Table:
    numbered: Callable[[], Iterator[tuple[int, Any]]]
    if text.lstrip()[:1] == "[":
        try:
            objects = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: is not JSON ({one_line(error)})") from error
        unit, numbered = "row", functools.partial(enumerate, objects, 1)
    else:
        unit, numbered = "line", functools.partial(_json_lines, text)

    def rows(names: list[str]) -> Iterator[tuple[int, list[Any] | str]]:
        for number, each in numbered():
            is_object = isinstance(each, dict)
            yield number, [*map(each.get, names)] if is_object else "is not a JSON object"

    first = next((each for _, each in numbered() if isinstance(each, dict)), {})
    return Table(path, list(first), unit, rows)


def _json_lines(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                yield number, None


def _open_parquet(path: str) -> Table:
    import pyarrow.parquet

    with reading(path) as (file, _):
        # Arrow needs more than TensorFlow's files have.
        source = pyarrow.BufferReader(file.read()) if "://" in path else path
    try:
        parquet = pyarrow.parquet.ParquetFile(source)
    except pyarrow.ArrowException as error:
        raise ValueError(
            f"{path}: is not a Parquet file, or is damaged ({one_line(error)})"
        ) from error
    schema = parquet.schema_arrow
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"].items()
    except (ValueError, KeyError, TypeError, AttributeError):  # other programs write no such thing
        features = ()

    def batches(names: list[str]) -> Iterable[Any]:
        return parquet.iter_batches(_ROWS_AT_ONCE, columns=names)

    return _arrow(path, schema, batches, dict(features))


def _arrow(
    path: str, schema: Any, batches: Callable[[list[str]], Iterable[Any]], features: dict
) -> Table:
    """A table of Arrow's `schema`; `features` of `datasets` may name the classes of a column."""
    from pyarrow import ArrowException, types

    classes = {
        name: feature["names"]
        for name, feature in features.items()
        if isinstance(feature, dict) and isinstance(feature.get("names"), list)
    }

    def rows(names: list[str]) -> Iterator[tuple[int, list[Any] | str]]:
        number = 0
        try:
            for batch in batches(names):
                columns = [batch.column(name).to_pylist() for name in names]
                for values in zip(*columns, strict=True):
                    number += 1
                    pairs = zip(values, names, strict=True)
                    yield number, [_named(value, classes.get(name)) for value, name in pairs]
        except (ArrowException, ValueError, OverflowError) as error:  # also dates that Python lacks
            where = f"{path}, after row {number}: {' and '.join(names)}"
            raise ValueError(f"{where} cannot be read ({one_line(error)})") from error

    def is_image(kind: Any) -> bool:  # as `datasets` stores them, or bytes
        if types.is_struct(kind):
            return "bytes" in [kind.field(place).name for place in range(kind.num_fields)]
        return types.is_binary(kind) or types.is_large_binary(kind)

    images = [field.name for field in schema if is_image(field.type)]
    return Table(path, schema.names, "row", rows, images)


def _named(value: Any, names: list[str] | None) -> Any:
    """The name that a class number stands for; -1 is a missing label."""
    if names is None or not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None


def _row(number: int, values: list[Any], names: list[str]) -> Row:
    """A row of str, bytes or None, from values of JSON or Arrow."""
    texts = []
    for name, value in zip(names, values, strict=True):
        if isinstance(value, dict) and "bytes" in value:  # an image
            value = value["bytes"] if value["bytes"] is not None else value.get("path")
        if isinstance(value, str):
            if _SURROGATE.search(value):
                return Row(number, [], f"{name!r} holds half a surrogate pair, which is no text")
        elif isinstance(value, dict | list):
            return Row(number, [], f"{name!r} holds {type(value).__name__}, expected a text")
        elif isinstance(value, bool):
            value = str(value).lower()
        elif isinstance(value, float) and math.isnan(value):  # how pandas writes a missing value
            value = None
        elif isinstance(value, float) and value.is_integer():  # from integers in a column with gaps
            value = str(int(value))
        elif value is not None and not isinstance(value, bytes):
            value = str(value)
        texts.append(value)
    return Row(number, texts)
