"""Turns a folder of plain-text books into documents, one for each chapter.

    python -m pipelines.books --folder=DIR --output=gs://bucket/books

Books are the files `*.txt` in the folder and its subfolders, in UTF-8, Windows-1252 or UTF-16 with
a byte order mark, from Project Gutenberg or elsewhere. `pipelines.prepare.books` says what is
kept of them. What follows `--` says where the work is done, see `pipelines.wikipedia`. The same
command resumes a run that was stopped.
"""

import sys
from typing import Any

from pipelines import command_line
from pipelines.prepare import books, jobs


def main(argv: list[str]) -> None:
    """The command, with its arguments without the program's name."""
    flags = [("folder", None, "Folder of books, *.txt, with its subfolders.")]

    def job(values: Any) -> books.BooksJob:
        return books.BooksJob(values.folder, books.find_books(values.folder))

    jobs.main(argv, str(__doc__), flags, job)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
