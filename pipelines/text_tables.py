"""Tables as text: Markdown and CSV."""

import csv
import html
import io
import types
from collections.abc import Callable, Iterable
from typing import Any

from pipelines.command_line import one_line

# By default `csv` refuses to read cells of more than 131,072 characters, but writes them.
csv.field_size_limit(2**31 - 1)


def markdown_row(cells: Iterable) -> str:
    """A row of a Markdown table; what would end a cell or the row, or begin HTML, is escaped."""
    texts = (html.escape(one_line(cell), quote=False).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(texts)} |"


def markdown_table(head: list[str], rows: Iterable[list]) -> str:
    """A Markdown table, see `markdown_row`."""
    return "\n".join(map(markdown_row, [head, ["---"] * len(head), *rows]))


def csv_text(rows: list[dict]) -> str:
    """Rows as CSV; the columns are those of all rows, in order of appearance."""
    lines: list[str] = []
    columns = list(dict.fromkeys(name for row in rows for name in row))
    # `csv` quotes a cell with "\r" only if its lines end with "\r\n".
    sink: Any = types.SimpleNamespace(write=lines.append)
    writer = csv.DictWriter(sink, columns)
    writer.writeheader()
    writer.writerows(rows)
    return "".join(line.removesuffix("\r\n") + "\n" for line in lines)


def csv_reader(text: str, kind: Callable[..., Any] = csv.reader, **options: Any) -> Any:
    """Reads CSV whose cells may have any length, by `csv.reader` or `csv.DictReader`."""
    return kind(io.StringIO(text, newline=""), **options)
