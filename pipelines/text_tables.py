"""Tables as text: Markdown and CSV."""

import csv
import html
import io
import types

from pipelines.command_line import one_line

# By default `csv` refuses to read cells of more than 131,072 characters, but writes them.
csv.field_size_limit(2**31 - 1)


def markdown_row(cells):
    """A row of a Markdown table; text that would end a cell or the row, or begin HTML, is escaped.

    Args:
        cells: iterable of objects with a str.

    Returns:
        str.
    """
    texts = (html.escape(one_line(cell), quote=False).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(texts)} |"


def markdown_table(head, rows):
    """A Markdown table, see `markdown_row`.

    Args:
        head: list of str, the names of the columns.
        rows: iterable of lists of objects with a str, one cell per column.

    Returns:
        str.
    """
    return "\n".join(map(markdown_row, [head, ["---"] * len(head), *rows]))


def csv_text(rows):
    """Rows as CSV.

    Args:
        rows: list of dicts.

    Returns:
        str; the columns are those of all rows, in order of appearance.
    """
    lines = []
    columns = list(dict.fromkeys(name for row in rows for name in row))
    # `csv` quotes a cell with "\r" only if its lines end with "\r\n".
    writer = csv.DictWriter(types.SimpleNamespace(write=lines.append), columns)
    writer.writeheader()
    writer.writerows(rows)
    return "".join(line.removesuffix("\r\n") + "\n" for line in lines)


def csv_reader(text, kind=csv.reader, **options):
    """Reads CSV whose cells may have any length.

    Args:
        text: str.
        kind: `csv.reader` or `csv.DictReader`.
        **options: of `kind`.

    Returns:
        what `kind` does.
    """
    return kind(io.StringIO(text, newline=""), **options)
