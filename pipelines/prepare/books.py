"""Documents from a folder of plain-text books, one for each chapter; see `pipelines.books`."""

import codecs
import dataclasses
import hashlib
import os
import re
from collections.abc import Iterable

from pipelines.command_line import one_line
from pipelines.files import reading, walk
from pipelines.prepare import book_text
from pipelines.prepare.jobs import ShardJob
from pipelines.shards.shard_manifest import DOCUMENTS
from pipelines.text.documents import Document, to_json

_FORMAT_VERSION = 1  # raise it when the same books give other documents
_SHARD_BYTES = 32_000_000  # of text
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_DOS_END = "\x1a"


def read_book(path: str) -> str:
    """Reads a book, local or `gs://`.

    Raises:
        ValueError: the file cannot be read, or is not text.
    """
    with reading(path) as (stream, _):
        return decode(stream.read())


def decode(data: bytes) -> str:
    """Decodes UTF-8, UTF-16 with a byte order mark, or Windows-1252.

    Raises:
        ValueError: the bytes are not text.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252")
    text = text.rstrip(_DOS_END)
    if control := _CONTROL.search(text):
        raise ValueError(f"it holds {control[0]!r}: a binary file")
    return text


@dataclasses.dataclass(frozen=True)
class BooksJob(ShardJob):
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

    def size(self):
        automatic = round(sum(size for _, size in self.books) / _SHARD_BYTES)
        return automatic, len(self.books), "books"

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


def divide(books: Iterable[tuple[str, int]], shards: int) -> list[list[str]]:
    """Gives each book, of a name and bytes, to the smallest shard so far, the largest books first.

    Returns:
        The names of each shard, sorted. The order of `books` does not matter.
    """
    volumes, names = [0] * shards, [[] for _ in range(shards)]
    for name, size in sorted(books, key=lambda book: (-book[1], book[0])):
        least = volumes.index(min(volumes))
        volumes[least] += size
        names[least].append(name)
    return [sorted(shard) for shard in names]


def find_books(folder: str) -> tuple[tuple[str, int], ...]:
    """Finds the books of a folder, local or `gs://`, and of its subfolders.

    Returns:
        Pairs of a path within the folder, and bytes; sorted.

    Raises:
        ValueError: there is none, a folder cannot be listed, or a book cannot be read or has a name
            that is not UTF-8.
    """
    found = []
    for parent, _, names in walk(folder):
        for name in names:
            if name.lower().endswith(".txt"):
                path = os.path.join(parent, name)
                path.encode()  # a name that is not UTF-8 raises; TensorFlow could not open it
                with reading(path) as (_, size):
                    found.append((os.path.relpath(path, folder), size))
    if not found:
        raise ValueError(f"{folder}: holds no *.txt files")
    return tuple(sorted(found))
