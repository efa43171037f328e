"""Turns a folder of plain-text books into documents, one for each chapter.

    python -m pipelines.books --folder=DIR --output=gs://bucket/books

Books are the files `*.txt` in the folder and its subfolders, in UTF-8, Windows-1252 or UTF-16 with
a byte order mark, from Project Gutenberg or elsewhere. `pipelines.text.book_text` says what is kept
of them. What follows `--` says where the work is done, see `pipelines.wikipedia`. The same command
resumes a run that was stopped.
"""

import codecs
import dataclasses
import hashlib
import os
import re
import sys

from pipelines import command_line
from pipelines.command_line import check_utf8, one_line
from pipelines.files import open_binary, walk
from pipelines.flags import define_flags
from pipelines.jobs import shard_job
from pipelines.shards.shard_manifest import DOCUMENTS
from pipelines.text import book_text
from pipelines.text.documents import Document, to_json

_FORMAT_VERSION = 1  # raise it when the same books give other documents
_SHARD_BYTES = 32_000_000  # of text
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_DOS_END = "\x1a"


def read_book(path):
    """Reads a book.

    Args:
        path: str, local or `gs://`.

    Returns:
        str.

    Raises:
        ValueError: the file cannot be read, or is not text.
    """
    import tensorflow as tf

    try:
        with open_binary(path) as stream:
            return decode(stream.read())
    except (OSError, tf.errors.OpError) as error:
        raise ValueError(one_line(error)) from error


def decode(data):
    """Decodes UTF-8, UTF-16 with a byte order mark, or Windows-1252.

    Args:
        data: bytes.

    Returns:
        str.

    Raises:
        ValueError: the bytes are not text.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            try:
                text = data.decode("cp1252")
            except UnicodeDecodeError:
                raise ValueError("it is neither UTF-8 nor Windows-1252") from None
    text = text.rstrip(_DOS_END)
    if control := _CONTROL.search(text):
        raise ValueError(f"it holds {control[0]!r}: a binary file")
    return text


@dataclasses.dataclass(frozen=True)
class BooksJob(shard_job.ShardJob):
    """Chapters of books. A shard holds whole books; all shards hold about the same amount of text.

    Attributes:
        folder: str, local or `gs://`.
        books: tuple of (path within the folder, bytes), sorted.
    """

    kind, unit = DOCUMENTS, "words"

    folder: str
    books: tuple[tuple[str, int], ...]

    def settings(self):
        return {
            "format_version": _FORMAT_VERSION,
            "folder": self.folder,
            "books": len(self.books),
            "books_sha256": hashlib.sha256(repr(self.books).encode()).hexdigest(),
        }

    def write_shard(self, shard, shards, file):
        counts = dict.fromkeys(("books", "documents", "words", "books_without_prose"), 0)
        damaged = []
        for name in divide(self.books, shards)[shard]:  # one book in memory at a time
            path = os.path.join(self.folder, name)
            try:
                text = read_book(path)
            except ValueError as error:
                damaged.append({"file": path, "record": 0, "reason": one_line(error)})
                continue
            title = book_text.title_of(text, os.path.splitext(os.path.basename(name))[0])
            chapters = book_text.chapters(text)
            counts["books"] += 1
            counts["books_without_prose"] += not chapters
            for heading, paragraphs in chapters:
                document = Document(f"{title}: {heading}" if heading else title, tuple(paragraphs))
                file.write(to_json(document))
                counts["documents"] += 1
                counts["words"] += sum(len(text.split()) for text in paragraphs)
        return counts, damaged


def divide(books, shards):
    """Gives each book to the smallest shard so far, the largest books first.

    Args:
        books: sequence of (name, bytes).
        shards: int.

    Returns:
        List of `shards` lists of names, each sorted. The order of `books` does not matter.
    """
    volumes, names = [0] * shards, [[] for _ in range(shards)]
    for name, size in sorted(books, key=lambda book: (-book[1], book[0])):
        least = volumes.index(min(volumes))
        volumes[least] += size
        names[least].append(name)
    return [sorted(shard) for shard in names]


def find_books(folder):
    """Finds the books of a folder and its subfolders.

    Args:
        folder: str, local or `gs://`.

    Returns:
        Tuple of (path within the folder, bytes), sorted.

    Raises:
        ValueError: there is none, a folder cannot be listed, or a book cannot be read or has a name
            that is not UTF-8.
    """
    import tensorflow as tf

    if not tf.io.gfile.isdir(folder):
        raise ValueError(f"--folder={folder}: no such folder; give one with *.txt files")
    found = []
    for parent, _, names in walk(folder):
        for name in names:
            if name.lower().endswith(".txt"):
                path = os.path.join(parent, name)
                check_utf8(path)
                try:
                    size = tf.io.gfile.stat(path).length
                except tf.errors.OpError as error:  # a broken link
                    raise ValueError(
                        f"{path}: cannot be read ({one_line(error)}); fix or remove it"
                    ) from error
                found.append((os.path.relpath(path, folder), size))
    if not found:
        raise ValueError(f"--folder={folder}: holds no *.txt files; give a folder of books")
    return tuple(sorted(found))


def main(argv):
    """The command.

    Args:
        argv: list of str, without the program's name.
    """
    values = define_flags(
        ("folder", None, "Folder of books, *.txt, with its subfolders."),
        ("output", None, "Prefix of the output files, local or gs://."),
        ("shards", None, "Output files. Default: one for every 32 MB of text.", 1),
        ("max_bad_records", 0, "Damaged books that may be left out.", 0),
    )
    beam_args = shard_job.parse_job_flags(values, argv, __doc__, ("folder", "output"))
    shard_job.check_job(values.output, beam_args)

    command_line.load_tensorflow()
    books = find_books(values.folder)
    automatic = round(sum(size for _, size in books) / _SHARD_BYTES)
    shards = shard_job.choose_shards(values.output, values.shards, automatic, len(books), "books")
    shard_job.run_job(
        BooksJob(values.folder, books),
        values.output,
        shards,
        beam_args,
        max_bad_records=values.max_bad_records,
    )


if __name__ == "__main__":
    sys.exit(command_line.run(main))
