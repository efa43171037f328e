"""Documents in text files: how they are written and read, and how they and a corpus are divided.

Two formats are read, distinguished by the first character of a file:

- JSON lines, as the project writes them: `{"title": "...", "paragraphs": ["...", ...]}`;
- the format of Google's BERT: one sentence a line, blank lines between documents.

A corpus is processed in units of some MiB, each a set of byte ranges of its files. Every document
belongs to exactly one unit, so units can be read independently of each other. They depend only on
the names and sizes of the files.
"""

import dataclasses
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from pipelines.command_line import one_line
from pipelines.files import find_files, json_object, reading
from pipelines.shards import shard_files
from pipelines.shards.shard_manifest import manifest_path, read_manifest

UNIT_BYTES = 8 << 20

_READ_BYTES = 1 << 18
_BOM = b"\xef\xbb\xbf"

# A stop, quotes or brackets that close with it, a space, and something a sentence may begin with.
# A run of stops is tried from its first one only.
_CANDIDATE = re.compile(
    r"(?P<stop>(?<![.!?])[.!?]+|…)(?P<closing>[\"'”’)\]]*)\s+(?=[\"'“‘(\[¿¡]*[^\W_a-zß-öø-ÿ])"
)
_LAST_WORD = re.compile(r"[\w.&'’-]*$")

# A stop after one of these belongs to the word: a name, a place or a date continues after it.
_ABBREVIATIONS = frozenset(
    "adm brig bros ca capt cf col comdr cpl dept dr ed eds esp ex fl ft gen gov hon jan feb apr jun"
    " jul aug sept oct nov dec lt maj messrs mlle mme mr mrs ms mt prof r rep rev rt sen sgt sp spp"
    " st ste supt trans univ v viz vs".split()
)
# These are abbreviations in front of a number, and may be plain words otherwise ("no", "art").
_NUMBERED = frozenset("art c ch eq eqs fig figs no nos op p para pp pt sec ser vol vols".split())
_NUMBER = re.compile(r"\d|[IVXLC]{2,}\b")
_OPENING_WORD = re.compile(r"\W*((?!\w\.)[\w’']+|)")  # not the second "A" of "A. A. Milne"
_INNER_STOPS = re.compile(r"(?:\w\.)+\w")  # "U.S", "e.g", "a.m", with the last stop cut off
# After "U.S.", "etc." or "J." a sentence continues, unless one of these words starts the next.
_OPENERS = frozenset(
    "A After Although An And As At But By During For From He Her His However If In It Its Many"
    " Most On One Other Others She Since So Some Such That The Their Then There These They This"
    " Those Though Thus To Under Until We What When Where While With You".split()
)

_CONTEXT = 40  # characters examined on each side of a stop: longer than a word


@dataclasses.dataclass(frozen=True)
class Document:
    """A text."""

    title: str  # empty where the file has none
    paragraphs: tuple[str, ...]
    split: bool = False  # each paragraph is one sentence already


@dataclasses.dataclass(frozen=True)
class Part:
    """The bytes of a file from `start` up to `stop`."""

    file: str
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class Unit:
    """What is read at once: parts of one file, or of several small ones."""

    parts: tuple[Part, ...]


def to_json(document: Document) -> bytes:
    """A document as a line of JSON, without its line break; `split` is not kept."""
    fields = {"title": document.title, "paragraphs": list(document.paragraphs)}
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")


def from_json(line: bytes | str) -> Document:
    """Reads what `to_json` writes; ignores fields other than `title` and `paragraphs`."""
    fields = json_object(line)
    title, paragraphs = fields.get("title", ""), fields.get("paragraphs")
    if not isinstance(paragraphs, list) or not all(isinstance(text, str) for text in paragraphs):
        raise ValueError("it has no 'paragraphs', a list of texts")
    title = title if isinstance(title, str) else ""
    for text in (title, *paragraphs):
        text.encode()  # raises for half a surrogate pair, which JSON can spell
    return Document(title, tuple(paragraphs))


def find_units(pattern: str, unit_bytes: int = UNIT_BYTES) -> tuple[Unit, ...]:
    """Divides the files that match a pattern into units.

    Large files are divided evenly into ranges of at most `unit_bytes`. Small ones are gathered
    until they reach half of it; what is left at the end joins the unit before. So a unit has at
    least half of `unit_bytes`, unless there is no more, and at most twice `unit_bytes`. `pattern`
    is as in `find_files`.
    """
    every = find_files(pattern).items()
    sizes = {file: size for file, size in every if not file.endswith(".manifest.json")}
    _check_finished(sizes)
    _check_listed(sizes)

    units, gathered, gathered_bytes = [], [], 0
    for file, size in sorted(sizes.items()):
        pieces = -(-size // unit_bytes)
        borders = [size * piece // pieces for piece in range(pieces + 1)] if pieces else []
        for start, stop in zip(borders, borders[1:], strict=False):
            gathered.append(Part(file, start, stop))
            gathered_bytes += stop - start
            if 2 * gathered_bytes >= unit_bytes:
                units.append(Unit(tuple(gathered)))
                gathered, gathered_bytes = [], 0
    if gathered:
        before = units.pop().parts if units else ()
        units.append(Unit((*before, *gathered)))
    return tuple(units)


def _check_finished(files: Iterable[str]) -> None:
    """Refuses files that a command is writing, or was stopped while writing."""
    import tensorflow as tf

    for prefix in sorted({shard_files.shard_prefix(file.partition(".tmp-")[0]) for file in files}):
        if tf.io.gfile.exists(f"{prefix}.progress"):
            raise ValueError(f"{prefix}: is not finished; wait for its command, or run it again")


def _check_listed(files: Iterable[str]) -> None:
    """Refuses a shard of another run than the manifest of its prefix."""
    for prefix, group in itertools.groupby(sorted(files), key=shard_files.shard_prefix):
        shards = [file for file in group if file != prefix]
        manifest = read_manifest(prefix) if shards else None
        listed = {entry["name"] for entry in manifest["shards"]} if manifest else None
        for file in shards:
            if listed is not None and os.path.basename(file) not in listed:
                raise ValueError(f"{file}: is not listed in {manifest_path(prefix)}; leave it out")


def read_unit(unit: Unit, damaged: list[dict] | None = None) -> Iterator[Document]:
    """Yields the documents of a unit in order.

    `damaged` gets a dict of `file`, `record` (the offset of its line in bytes) and `reason` for
    each line that cannot be read. Without it such a line is an error.
    """
    for part in unit.parts:
        for position, result in _read_part(part):
            if isinstance(result, Document):
                yield result
            elif damaged is None:
                raise ValueError(f"{part.file}: the line at byte {position} is damaged: {result}")
            else:
                damaged.append({"file": part.file, "record": position, "reason": result})


def _read_part(part: Part) -> Iterator[tuple[int, Document | str]]:
    """Yields pairs: a position, and the document there or what is wrong with it."""
    with reading(part.file) as (stream, _):
        is_json = stream.read(256).removeprefix(_BOM).lstrip().startswith(b"{")
        read = _json_documents if is_json else _plain_documents
        yield from read(placed_lines(stream, part.start), part)


def placed_lines(stream: Any, start: int) -> Iterator[tuple[int, bytes]]:
    """Yields (position, line without its break) for the lines that begin at `start` or after it.

    `GFile.readline` would drop carriage returns, which positions count.
    """
    position, line = max(0, start - 1), b""
    stream.seek(position)
    is_own = start == 0  # else it is the rest of the line before, perhaps only its line break
    while data := stream.read(_READ_BYTES):
        *lines, line = (line + data).split(b"\n")
        for whole in lines:
            if is_own:
                yield position, whole
            is_own = True
            position += len(whole) + 1
    if line and is_own:
        yield position, line


def _json_documents(
    lines: Iterator[tuple[int, bytes]], part: Part
) -> Iterator[tuple[int, Document | str]]:
    for position, line in lines:
        if position >= part.stop:
            return
        if line.strip():
            try:
                yield position, from_json(line)
            except ValueError as error:
                yield position, one_line(error)


def _plain_documents(
    lines: Iterator[tuple[int, bytes]], part: Part
) -> Iterator[tuple[int, Document | str]]:
    """Yields the documents of a range: those after a blank line in it, or at the file's start.

    So a reader finds its own documents without looking back, whatever the number of blank lines.
    """
    sentences = []
    is_own, first = part.start == 0, part.start
    for position, line in lines:
        if position == 0:
            line = line.removeprefix(_BOM)
        if not line.strip():
            if sentences:
                yield first, _plain_document(sentences)
                sentences = []
            is_own = position < part.stop
        elif is_own:
            first = first if sentences else position
            sentences.append(line)
        if not is_own and position >= part.stop:
            return
    if sentences:
        yield first, _plain_document(sentences)


def _plain_document(lines: list[bytes]) -> Document | str:
    try:
        texts = [line.decode().strip() for line in lines]
    except UnicodeDecodeError as error:
        return one_line(error)
    return Document("", tuple(text for text in texts if text), split=True)


def split_sentences(paragraph: str) -> list[str]:
    """Splits a paragraph without line breaks into sentences, none of them empty.

    Stops in abbreviations ("Dr. Smith"), initials ("J. R. R. Tolkien") and numbers ("3.14") do not
    end a sentence.
    """
    sentences = []
    start = 0
    for candidate in _CANDIDATE.finditer(paragraph):
        before = paragraph[max(start, candidate.start() - _CONTEXT) : candidate.start()]
        after = paragraph[candidate.end() : candidate.end() + _CONTEXT]
        if candidate["stop"] == "." and not _ends_sentence(before, candidate["closing"], after):
            continue
        sentences.append(paragraph[start : candidate.end("closing")].strip())
        start = candidate.end()
    sentences.append(paragraph[start:].strip())
    return [sentence for sentence in sentences if sentence]


def _ends_sentence(before: str, closing: str, after: str) -> bool:
    """Whether a single full stop after the text `before` ends the sentence."""
    word = _LAST_WORD.findall(before)[0].lstrip("'’-.&")
    opener = _OPENING_WORD.findall(after)[0]
    if closing:
        return True
    if len(word) == 1 and word.isupper():
        return opener in _OPENERS  # otherwise the letter is an initial
    if word.lower() in _ABBREVIATIONS:
        return False
    if word.lower() in _NUMBERED:
        return _NUMBER.match(opener) is None
    if _INNER_STOPS.fullmatch(word) or word.lower() == "etc":
        return opener in _OPENERS
    return True
