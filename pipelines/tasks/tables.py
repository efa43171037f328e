"""Tables of examples in common formats: TSV, CSV, JSON lines and Parquet.

| file | is read as |
| --- | --- |
| `.tsv` | fields separated by tabs, not quoted: a quotation mark is part of its field, as in GLUE |
| `.csv` | RFC 4180; if the first line has no comma, semicolons separate |
| `.jsonl`, `.ndjson`, `.json` | one object per line, or one list of objects |
| `.parquet` | with `pyarrow` |

The first line of a TSV or CSV file names its columns.
"""

import collections
import contextlib
import csv
import dataclasses
import functools
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

from pipelines.command_line import install, one_line, say
from pipelines.files import reading
from pipelines.text_tables import csv_reader

SUFFIXES = (".tsv", ".csv", ".jsonl", ".ndjson", ".json", ".parquet")
ROWS_AT_ONCE = 1_000  # of Arrow's tables
_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can spell one; UTF-8 cannot


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        number: from 1: its line in the file, or its place among the rows of a JSON list, a Parquet
            file or a saved data set; see `Table.unit`.
        values: str, bytes or None (nothing is there), one for each column asked for.
        damage: what is wrong with the row; empty if nothing is.
    """

    number: int
    values: list[Any]
    damage: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A file of rows.

    Attributes:
        columns: their names.
        unit: what a row's number counts: `line` or `row`.
        read: yields a `Row` of some columns for each row.
        image_columns: the columns whose values are encoded images.
    """

    path: str
    columns: list[str]
    unit: str
    read: Callable[[list[str]], Iterator[Row]]
    image_columns: list[str] = dataclasses.field(default_factory=list)


def is_table(path: str) -> bool:
    """Whether a file is a table, by its name."""
    return path.lower().endswith(SUFFIXES)


def open_table(path: str) -> Table:
    """Opens a table, local or `gs://`.

    Raises:
        ValueError: it is of another form, cannot be read, names a column twice, or needs a package
            that is not installed.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".parquet":
        table = _open_parquet(path)
    elif suffix == ".tsv":
        table = _open_tsv(path)
    elif suffix == ".csv":
        table = _open_csv(path)
    elif suffix in SUFFIXES:
        table = _open_json(path)
    else:
        raise ValueError(f"{path}: is not a table, which ends with {', '.join(SUFFIXES)}")
    for name, count in collections.Counter(table.columns).items():
        if count > 1:
            raise ValueError(f"{path}: has {count} columns {name!r}")
    return table


def arrow_table(path: str, schema, batches: Callable, features: dict) -> Table:
    """A table from Arrow data.

    Args:
        path: where it comes from, for messages.
        schema: `pyarrow.Schema`.
        batches: function of a list of column names that yields a `pyarrow.RecordBatch` of them for
            each part of the rows.
        features: what Hugging Face's `datasets` says about each column, which may name its classes.
    """
    classes = {
        name: feature["names"]
        for name, feature in features.items()
        if isinstance(feature, dict) and isinstance(feature.get("names"), list)
    }
    images = [field.name for field in schema if _is_image(field.type)]

    def read(names):
        number = 0
        for batch in batches(names):
            try:
                columns = [batch.column(name).to_pylist() for name in names]
            except (ValueError, OverflowError) as error:  # not UTF-8, or a date that Python lacks
                raise ValueError(
                    f"{path}, after row {number}: {' and '.join(names)} cannot be read "
                    f"({one_line(error)})"
                ) from error
            for values in zip(*columns, strict=True):
                number += 1
                named = (
                    _named(value, classes.get(n)) for n, value in zip(names, values, strict=True)
                )
                yield _row(number, named, names)

    return Table(path, schema.names, "row", read, images)


def _read_text(path):
    with reading(path) as (stream, _):
        content = stream.read()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {number}: not valid UTF-8") from error


def _open_tsv(path):
    # Not `splitlines`: sentences hold characters that it takes for line ends.
    header, *lines = [line.removesuffix("\r") for line in _read_text(path).split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    columns = header.split("\t")

    def read(names):
        places = [columns.index(name) for name in names]
        for number, line in enumerate(lines, 2):
            yield _fields(number, line.split("\t"), columns, places)

    return Table(path, columns, "line", read)


def _open_csv(path):
    text = _read_text(path)
    header = text.partition("\n")[0]
    delimiter = "," if "," in header else ";" if ";" in header else ","
    if delimiter == ";":
        say(f"{path}: its columns are separated by semicolons")

    def rows():
        reader = csv_reader(text, delimiter=delimiter, strict=True)
        last = 0
        try:
            for fields in reader:
                if fields:  # not an empty line
                    yield last + 1, fields
                last = reader.line_num
        except csv.Error as error:  # of quotation marks
            raise ValueError(f"{path}, line {last + 1}: {error}") from error

    columns = next(rows(), (1, [""]))[1]

    def read(names):
        places = [columns.index(name) for name in names]
        lines = rows()
        next(lines, None)
        for number, fields in lines:
            yield _fields(number, fields, columns, places)

    return Table(path, columns, "line", read)


def _open_json(path):
    text = _read_text(path)
    if text.lstrip()[:1] == "[":
        try:
            objects = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: is not JSON ({one_line(error)})") from error
        unit, numbered = "row", functools.partial(enumerate, objects, 1)
    else:
        unit, lines = "line", text.split("\n")

        def numbered():
            return ((n, _parsed(line)) for n, line in enumerate(lines, 1) if line.strip())

    first = next((each for _, each in numbered() if isinstance(each, dict)), {})

    def read(names):
        for number, each in numbered():
            if isinstance(each, dict):
                yield _row(number, [each.get(name) for name in names], names)
            else:
                yield Row(number, [], "is not a JSON object")

    return Table(path, list(first), unit, read)


def _open_parquet(path):
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(
            f"{path}: reading Parquet needs pyarrow; run: {install('parquet')}"
        ) from error

    @contextlib.contextmanager
    def opened():
        try:
            with reading(path) as (file, _):
                if "://" in path:  # Arrow needs more than TensorFlow's files have
                    file = io.BytesIO(file.read())
                yield pyarrow.parquet.ParquetFile(file)
        except pyarrow.ArrowException as error:
            raise ValueError(
                f"{path}: is not a Parquet file, or is damaged ({one_line(error)})"
            ) from error

    def batches(names):
        with opened() as parquet:
            yield from parquet.iter_batches(ROWS_AT_ONCE, columns=names)

    with opened() as parquet:
        schema = parquet.schema_arrow
    try:
        stored = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = stored["info"]["features"]
    except (ValueError, KeyError, TypeError):  # other programs write no such thing
        features = {}
    return arrow_table(path, schema, batches, features if isinstance(features, dict) else {})


def _is_image(kind):
    """Whether values are images as Hugging Face's `datasets` stores them, or bytes."""
    from pyarrow import types

    if types.is_struct(kind):
        return "bytes" in [kind.field(place).name for place in range(kind.num_fields)]
    return types.is_binary(kind) or types.is_large_binary(kind)


def _parsed(line):
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _named(value, names):
    """The name that a class number stands for; -1 is a missing label."""
    if names is None or not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None


def _fields(number, fields, columns, places):
    if len(fields) != len(columns):
        wrong = f"{len(fields)} fields, expected {len(columns)} ({', '.join(columns)})"
        return Row(number, [], wrong)
    return Row(number, [fields[place] for place in places])


def _row(number, values, names):
    """Converts a row of JSON or Arrow values to str, bytes or None."""
    texts = []
    for name, value in zip(names, values, strict=True):
        if isinstance(value, dict) and "bytes" in value:  # an image
            value = value["bytes"] if value["bytes"] is not None else value.get("path")
        if isinstance(value, dict | list):
            return Row(number, [], f"{name!r} holds {type(value).__name__}, expected a text")
        if isinstance(value, bool):
            value = str(value).lower()
        elif isinstance(value, float) and math.isnan(value):  # how pandas writes a missing value
            value = None
        elif isinstance(value, float) and value.is_integer():  # from integers in a column with gaps
            value = int(value)
        if value is not None and not isinstance(value, str | bytes):
            value = str(value)
        if isinstance(value, str) and _SURROGATE.search(value):
            return Row(number, [], f"{name!r} holds half a surrogate pair, which is no text")
        texts.append(value)
    return Row(number, texts)
