"""Documents from a folder of plain-text books, one for each chapter; see `pipelines.books`.

A book is hard-wrapped lines; its prose is chapters of paragraphs.

Only running prose is kept. It leaves out the licence and credits around a Project Gutenberg book,
title pages, tables of contents, headings, illustrations, footnotes, indices, transcriber's notes,
and verse, lists and tables, whose lines end before they are full. Blank lines separate paragraphs.
"""

import codecs
import collections
import dataclasses
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from pipelines.command_line import one_line
from pipelines.files import reading, walk
from pipelines.prepare.jobs import ShardJob, ShardResult
from pipelines.shards.shard_files import LineFile
from pipelines.shards.shard_manifest import DOCUMENTS
from pipelines.text.documents import Document, to_json

_FORMAT_VERSION = 1  # raise it when the same books give other documents
_SHARD_BYTES = 32_000_000  # of text
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_DOS_END = "\x1a"

_HEADER_BYTES = 1 << 16  # of Project Gutenberg's additions before a book, at most
MIN_WORDS = 50  # a shorter chapter is an entry of a table of contents, or a dedication
_FRONT_WORDS = 500  # more words than this before the first heading are not a title page

_START = re.compile(
    r"\*{3} ?START OF TH(?:E|IS) PROJECT GUTENBERG[^*]{0,300}\*{3}"
    r"|\*END[ *]+THE SMALL PRINT![^\n]*",
    re.IGNORECASE,
)
_END = re.compile(
    r"\*{3} ?END OF TH(?:E|IS) PROJECT GUTENBERG"
    r"|^[^\w\n]*End of (?:the |this )?Project Gutenberg",
    re.IGNORECASE | re.MULTILINE,
)
_TITLE = re.compile(r"^Title: *(\S.*)$", re.MULTILINE)
_BRACKETED = re.compile(
    r"\[ *(?:illustrations?|transcriber'?s?'? notes?|transcribers?'|footnotes?|frontispiece"
    r"|decoration|editor's note)\b[^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*\]",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r" ?\[(?:\d{1,3}|[A-Z*†‡])\]")
_PUBLISHER = re.compile(
    r"project gutenberg|gutenberg\.(?:org|net)|^(?:e-?text |e-?book )?(?:was )?produced by\b"
    r"|transcriber'?s? note|all rights reserved|\bISBN\b|^copyright\b|©",
    re.IGNORECASE,
)

_ROMAN = r"(?=[IVXLCivxlc])(?:[Cc]{0,3})(?:[Xx][CcLl]|[Ll]?[Xx]{0,3})(?:[Ii][XxVv]|[Vv]?[Ii]{0,3})"
_ONES = "one two three four five six seven eight nine".split()
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth"
    " fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth last".split()
)
_WORDED = "|".join(
    [rf"(?:{'|'.join(_TENS)})(?:[- ](?:{'|'.join([*_ONES, *_ORDINALS])}))?", *_TEENS, *_ONES]
)
_NUMBER = rf"(?:\d{{1,3}}|{_ROMAN}|(?i:{_WORDED})|(?i:the +)?(?i:{'|'.join(_ORDINALS)}))"
_DIVISION = r"(?i:chapter|chap\.?|book|volume|vol\.?|part|letter|section|stave|canto|act|scene)"
_NAMED = (
    "prologue epilogue preface foreword introduction introductory afterword conclusion postscript"
    " dedication interlude".split()
)
_APPARATUS = (
    "contents|table of contents|list of illustrations|illustrations|list of plates|index|errata"
    r"|glossary|(?:foot|end)?notes|(?:a )?notes? on the text|transcriber's notes?|bibliography"
    "|advertisements|by the same author|the end|finis"
)
_HEADING = re.compile(
    rf"(?:{_DIVISION} +(?:no\.? +)?{_NUMBER}(?!\w)"
    rf"|(?:THE +)?(?i:{'|'.join(_ORDINALS)}) +{_DIVISION}"
    rf"|(?i:{'|'.join(_NAMED)})\b)(?:\s*$| *\n.*|\s*[.:;,\]—–-].*)"
    rf"|(?:{_ROMAN}|\d{{1,3}})\.?\s*$",
    re.DOTALL,
)
_APPARATUS_HEADING = re.compile(rf"\W*(?:{_APPARATUS})\W*", re.IGNORECASE)

_RULE = re.compile(r"[\W_]*")
_HYPHENATED = re.compile(r"([^\W\d_]+)-\n([^\W\d_]+)")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_BLANK_NAME = re.compile(r"_{2,}|-{2,}")
_EMPHASIS = re.compile(r"_|(?<!\w)=(?=\S)|(?<=\S)=(?!\w)")
_PROSE_END = re.compile(r"[.!?…,;:—–-][\"'”’»)\]*]*$")
_VERSE_START = re.compile(r"[\W_]*[^\W\d_a-z]")


def read_book(path: str) -> str:
    """Reads a book, local or `gs://`."""
    with reading(path) as (stream, _):
        return decode(stream.read())


def decode(data: bytes) -> str:
    """Decodes UTF-8, UTF-16 with a byte order mark, or Windows-1252; refuses what is not text."""
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
    """Chapters of books. A shard holds whole books; all hold about the same amount of text."""

    kind, unit = DOCUMENTS, "words"

    folder: str
    books: tuple[tuple[str, int], ...]  # (path within the folder, bytes), sorted

    def settings(self) -> dict[str, Any]:
        return {
            "format_version": _FORMAT_VERSION,
            "folder": self.folder,
            "books": len(self.books),
            "books_sha256": hashlib.sha256(repr(self.books).encode()).hexdigest(),
        }

    def size(self) -> tuple[int, int, str]:
        automatic = round(sum(size for _, size in self.books) / _SHARD_BYTES)
        return automatic, len(self.books), "books"

    def write_shard(self, shard: int, shards: int, file: LineFile) -> ShardResult:
        counts = {"books": 0, "documents": 0, "words": 0, "books_without_prose": 0}
        damaged = []
        for name in divide(self.books, shards)[shard]:  # one book in memory at a time
            path = os.path.join(self.folder, name)
            try:
                text = read_book(path)
            except ValueError as error:
                damaged.append({"file": path, "record": 0, "reason": one_line(error)})
                continue
            title = title_of(text, os.path.splitext(os.path.basename(name))[0])
            prose = chapters(text)
            counts["books"] += 1
            counts["books_without_prose"] += not prose
            for heading, paragraphs in prose:
                document = Document(f"{title}: {heading}" if heading else title, tuple(paragraphs))
                file.write(to_json(document))
                counts["documents"] += 1
                counts["words"] += sum(len(text.split()) for text in paragraphs)
        return counts, damaged


def divide(books: Iterable[tuple[str, int]], shards: int) -> list[list[str]]:
    """Gives each book, of a name and bytes, to the smallest shard so far, the largest books first.

    The names of each shard are sorted. The order of `books` does not matter.
    """
    volumes: list[int] = [0] * shards
    names: list[list[str]] = [[] for _ in range(shards)]
    for name, size in sorted(books, key=lambda book: (-book[1], book[0])):
        least = volumes.index(min(volumes))
        volumes[least] += size
        names[least].append(name)
    return [sorted(shard) for shard in names]


def find_books(folder: str) -> tuple[tuple[str, int], ...]:
    """The path within a folder and the bytes of its books and of those in subfolders, sorted."""
    books = []
    for parent, _, names in walk(folder):
        for name in names:
            if name.lower().endswith(".txt"):
                path = os.path.join(parent, name)
                path.encode()  # a name that is not UTF-8 raises; TensorFlow could not open it
                with reading(path) as (_, size):
                    books.append((os.path.relpath(path, folder), size))
    if not books:
        raise ValueError(f"{folder}: holds no *.txt files")
    return tuple(sorted(books))


def title_of(text: str, default: str) -> str:
    """The title in the header of a Project Gutenberg book, or the default."""
    match = _TITLE.search(text, 0, _HEADER_BYTES)
    return match[1].strip() if match else default


def chapters(text: str) -> list[tuple[str, list[str]]]:
    """The chapters of a book: their headings, which may be empty, and paragraphs without breaks."""
    lines = [line.expandtabs().rstrip() for line in _body(text).splitlines()]
    width = _width(lines)
    words = collections.Counter(_WORD.findall("\n".join(lines)))
    divided: list[tuple[str, list[str]]] = [("", [])]
    is_apparatus = is_after_heading = False
    for block, blanks in _blocks(lines):
        if _is_heading(block, blanks):
            is_apparatus = _APPARATUS_HEADING.fullmatch(block[0].strip()) is not None
            divided.append((" ".join(" ".join(block).split()).strip(" _=*"), []))
            is_after_heading = True
        elif not is_apparatus and not _is_set_off(block, width):
            paragraph = _joined(block, words)
            if _is_prose(paragraph) and not (is_after_heading and _is_title(paragraph)):
                divided[-1][1].append(paragraph)
            is_after_heading = False
    (_, front), *others = divided
    enough = [chapter for chapter in others if _count(chapter[1]) >= MIN_WORDS]
    if _count(front) >= (_FRONT_WORDS if others else MIN_WORDS):
        enough.insert(0, ("", front))
    return enough


def _count(paragraphs: list[str]) -> int:
    return sum(len(paragraph.split()) for paragraph in paragraphs)


def _body(text: str) -> str:
    """The book without Project Gutenberg's additions around it and without bracketed notes."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n\n")
    # The older header has the small print after the star line of the newer one.
    starts = [match.end() for match in _START.finditer(text, 0, _HEADER_BYTES)]
    text = text[max(starts, default=0) :]
    end = _END.search(text)
    return _BRACKETED.sub("\n", text[: end.start()] if end else text)


def _width(lines: list[str]) -> int:
    """The length of full lines: the length that a tenth of all lines reach."""
    lengths = sorted(len(line) for line in lines if line)
    return lengths[len(lengths) * 9 // 10] if lengths else 0


def _blocks(lines: list[str]) -> Iterator[tuple[list[str], int]]:
    """Yields the runs of lines that are not blank, and the number of blank lines before each."""
    block, blanks, before = [], 0, 0
    for line in [*lines, ""]:
        if not line.strip() or _RULE.fullmatch(line):
            if block:
                yield block, before
                block, blanks = [], 0
            blanks += 1
        else:
            if not block:
                before = blanks
            block.append(line)


def _is_heading(block: list[str], blanks: int) -> bool:
    if len(block) > 4:
        return False
    text = "\n".join(line.strip().strip("_=*") for line in block)
    match = _HEADING.match(text)
    if match or _APPARATUS_HEADING.fullmatch(text):
        # A title may follow the number, but a whole paragraph is unlikely.
        return len(text) < 200
    is_upper = text.isupper() and sum(map(str.isalpha, text)) > 2 and not text.endswith(",")
    return is_upper and blanks >= 2 and len(block) <= 3


def _is_set_off(block: list[str], width: int) -> bool:
    """Whether lines end before they are full, as those of verse, lists and tables do."""
    lines = [line.strip() for line in block]
    if len(lines) < 2:
        return False
    full = max(max(map(len, lines)), 0.65 * width)
    early = [
        len(line) + 1 + len(after.split()[0]) <= full and len(line) < 0.8 * width
        for line, after in zip(lines, lines[1:], strict=False)
    ]
    if sum(early) > len(early) / 2:
        return True
    mean = sum(map(len, lines[:-1])) / (len(lines) - 1)
    return len(lines) > 2 and mean < 0.85 * width and all(map(_VERSE_START.match, lines))


def _joined(block: list[str], words: collections.Counter[str]) -> str:
    """The text of a paragraph's lines."""
    text = "\n".join(line.strip() for line in block)
    if "-\n" in text:
        text = _HYPHENATED.sub(lambda match: _rejoined(match, words), text)
    text = text.replace("--\n", "--").replace("\n--", "--").replace("—\n", "—").replace("\n—", "—")
    text = _EMPHASIS.sub("", _BLANK_NAME.sub("—", _REFERENCE.sub("", text)))
    return " ".join(text.split())


def _rejoined(match: re.Match[str], words: collections.Counter[str]) -> str:
    """Rejoins a word divided at the end of a line: keeps the hyphen if the book does elsewhere."""
    start, end = match.groups()
    together, hyphenated = words[start + end], words[f"{start}-{end}"]
    # Each half occurs here once itself; if both occur elsewhere, they are words of their own.
    is_compound = together < hyphenated or (
        together == hyphenated and min(words[start], words[end]) > 1
    )
    return f"{start}-{end}" if is_compound else start + end


def _is_prose(paragraph: str) -> bool:
    return (
        _PROSE_END.search(paragraph) is not None
        and any(map(str.islower, paragraph))
        and not _PUBLISHER.search(paragraph)
    )


def _is_title(paragraph: str) -> bool:
    """Whether a paragraph after a heading is its second line: most words begin with a capital."""
    words = [word for word in _WORD.findall(paragraph) if len(word) > 3]
    capitals = sum(word[0].isupper() for word in words)
    return len(paragraph.split()) <= 15 and len(words) >= 3 and capitals > 0.7 * len(words)
