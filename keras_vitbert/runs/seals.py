"""Seals of a run's files: they show that a file is still what the project wrote.

A JSON object holds the SHA-256 of its other content. A row of `metrics.csv` or `divergences.csv`
holds the CRC-32 of its other cells. Files of an older version have no seal and are accepted as they
are.
"""

import hashlib
import json
import zlib

from pipelines.text_tables import csv_reader

OF_JSON, OF_ROW = "sha256", "crc32"


def sealed(content):
    """A JSON object with its seal.

    Args:
        content: JSON-serialisable dict.

    Returns:
        dict, as JSON would return it.
    """
    content = json.loads(json.dumps(content))
    return {**content, OF_JSON: _digest(content)}


def unsealed(content):
    """A JSON object without its seal.

    Args:
        content: dict, as it was read.

    Returns:
        dict.

    Raises:
        ValueError: the content is not what was sealed.
    """
    content = dict(content)
    seal = content.pop(OF_JSON, None)
    if seal not in (None, _digest(content)):
        raise ValueError(
            f"its content is not what was written; if you changed it, remove its {OF_JSON}"
        )
    return content


def sealed_rows(rows):
    """Rows of a log with their seals.

    Args:
        rows: list of dict of column to value.

    Returns:
        list of dict.
    """
    return [{**row, OF_ROW: _checksum(row)} for row in rows]


def read_rows(text, numbers=True):
    """Reads the rows of a log that `sealed_rows` and `csv_text` made.

    Args:
        text: str, CSV.
        numbers: bool, whether all cells must be numbers or empty.

    Returns:
        list of dict of column to str, without their seals.

    Raises:
        ValueError: a row is not what was written, perhaps cut off.
        csv.Error: it is not CSV.
    """
    header, *lines = filter(None, csv_reader(text))
    rows = []
    for line in lines:
        if len(line) != len(header) or not text.endswith("\n"):
            raise ValueError(f"its line {','.join(line)[:60]} is cut off")
        row = dict(zip(header, line, strict=True))
        seal = row.pop(OF_ROW, None)
        for value in filter(None, row.values() if numbers else ()):
            float(value)
        if seal not in (None, _checksum(row)):
            raise ValueError(f"its row of step {row.get('step')} is not what was written")
        rows.append(row)
    return rows


def _digest(content):
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _checksum(row):
    """The checksum of the cells that are not empty: later rows may have other columns."""
    cells = "\n".join(sorted(f"{name}={value}" for name, value in row.items() if f"{value}"))
    return f"{zlib.crc32(cells.encode()):08x}"
