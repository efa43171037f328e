"""Documents from the articles of a Wikipedia dump; see `pipelines.wikipedia`.

A dump, `pages-articles-multistream.xml.bz2` or any part of it, is divided into byte ranges of the
compressed file. A page belongs to the range in which the bzip2 stream with its `<page>` tag begins;
reading continues after the range until that page ends. So adjoining ranges give each page once, and
one process need not read what another does.

A bzip2 file is one or more streams, end to end; Wikipedia's multistream dumps hold one for every
hundred pages. A stream begins at a byte boundary, always with the same letters. A search for them
finds the first stream of a range; each later one begins where the one before it ends. The letters
occur inside a stream by chance, about once in 10^22 bytes. Nothing can be unpacked from there, so
that place counts as damage, but the stream around it is read whole, by its own range.
"""

import bz2
import dataclasses
import html
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Generator, Iterator
from typing import IO, Any

from pipelines.command_line import say
from pipelines.files import find_files, reading
from pipelines.prepare.jobs import ShardJob, ShardResult
from pipelines.prepare.wikitext import passages
from pipelines.shards.shard_files import LineFile
from pipelines.shards.shard_manifest import DOCUMENTS
from pipelines.text.documents import Document, to_json

_FORMAT_VERSION = 4  # raise it when the same shard of a dump gives other documents
_SHARD_BYTES = 32_000_000  # of the compressed dump: a few minutes of work

_BEGIN, _END = b"<page>", b"</page>"
_DUMP_BEGIN, _DUMP_END = b"<mediawiki", b"</mediawiki>"
_XML_BYTES = 1 << 20  # a dump that is not compressed is read in pieces of this size
_TITLE = re.compile(rb"<title>(.*?)</title>", re.DOTALL)

_STREAM = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")  # the latter: a stream without content
_MARK_BYTES = 10
_READ_BYTES = 1 << 16  # compressed; at the highest level a block takes some 200 kB
_CONTENT_BYTES = 1 << 24  # unpacked at a time: a file of one repeated letter grows a million times

_DISAMBIGUATION = re.compile(
    r"\{\{\s*+(?:[\w -]*disambig(?:uation)?(?:[ -]cleanup)?|disamb|dab|hndis|geodis|numberdis"
    r"|schooldis|mathdab|set index article|surname|given name)\s*[|}]",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class WikipediaJob(ShardJob):
    """Documents from a dump.

    Shard `s` of `n` takes the pages in the `s`-th of `n` equal parts of the dump's bytes.
    """

    kind, unit = DOCUMENTS, "words"

    files: tuple[tuple[str, int], ...]  # (path, bytes), in order

    def settings(self) -> dict[str, Any]:
        return {
            "dump": [[os.path.basename(path), size] for path, size in self.files],
            "wikipedia_version": _FORMAT_VERSION,
        }

    def write_shard(self, shard: int, shards: int, file: LineFile) -> ShardResult:
        counts = {"pages": 0, "documents": 0, "words": 0}
        damaged: list[dict] = []
        for path, start, stop in self._ranges(shard, shards):
            for page in read_pages(path, start, stop, damaged):
                counts["pages"] += 1
                document = to_document(page)
                if document is not None:
                    file.write(to_json(document))
                    counts["documents"] += 1
                    counts["words"] += sum(len(text.split()) for text in document.paragraphs)
        return counts, damaged

    def size(self) -> tuple[int, int, str]:
        size = sum(size for _, size in self.files)
        return round(size / _SHARD_BYTES), size, "bytes of the dump"

    def _ranges(self, shard: int, shards: int) -> Iterator[tuple[str, int, int]]:
        """Yields (path, start, stop) for a shard's part of the files, as if they were one file."""
        total = sum(size for _, size in self.files)
        start, stop = total * shard // shards, total * (shard + 1) // shards
        before = 0
        for path, size in self.files:
            begin, end = max(0, start - before), min(size, stop - before)
            if begin < end:
                yield path, begin, end
            before += size


def job(dump: str) -> WikipediaJob:
    """The job of the files of a dump; warns of large streams, which workers cannot share."""
    files = find_files(dump)
    for path, size in files.items():
        with reading(path) as (file, _):
            is_packed = file.read(3) == b"BZh"
            if is_packed and size > _SHARD_BYTES and not find_stream(file, 1, _SHARD_BYTES // 2):
                say(f"{path}: one process reads each large bzip2 stream; take a multistream dump")
    return WikipediaJob(tuple(files.items()))


def read_documents(path: str) -> Iterator[Document]:
    """Yields the articles that have prose, in order, of a dump, compressed with bzip2 or not.

    Pages outside the article namespace, redirects and disambiguation pages are skipped.
    """
    return filter(None, map(to_document, read_pages(path)))


@dataclasses.dataclass(frozen=True)
class Page:
    """A page of a dump; articles are in namespace 0."""

    title: str
    namespace: int
    is_redirect: bool
    wikitext: str


def to_document(page: Page) -> Document | None:
    """The prose of a page; None if the page is not an article or has no prose."""
    if page.namespace != 0 or page.is_redirect or page.title.endswith("(disambiguation)"):
        return None
    if _DISAMBIGUATION.search(page.wikitext):
        return None
    paragraphs = passages(page.wikitext)
    return Document(page.title, tuple(paragraphs)) if paragraphs else None


def read_pages(
    path: str, start: int = 0, stop: int | None = None, damaged: list[dict] | None = None
) -> Iterator[Page]:
    """Yields the pages that begin in a range of bytes of a dump, in order.

    Memory holds a page and a few MB of the file at a time. `damaged` gets a dict of `file`,
    `record` and `reason` for each stream and each page that cannot be read; without it, these are
    errors.
    """

    def lose(record: str, reason: str) -> None:
        if damaged is None:
            raise ValueError(f"{path}: not a whole MediaWiki dump ({record}: {reason})")
        damaged.append({"file": str(path), "record": record, "reason": reason})

    with reading(path) as (file, size):
        for source in _page_sources(path, file, start, size if stop is None else stop, lose):
            try:
                page = ElementTree.fromstring(source)
                fields = {element.tag: element for element in page.iter()}
                title, wikitext = (fields[name].text or "" for name in ("title", "text"))
                namespace = int(fields["ns"].text or "")
            except (ElementTree.ParseError, KeyError, ValueError) as error:
                lose(_name(source), f"is not a page of a dump: {error}")
            else:
                yield Page(title, namespace, "redirect" in fields, wikitext)


def _page_sources(
    path: str, file: IO[bytes], start: int, stop: int, lose: Callable[[str, str], None]
) -> Iterator[bytes]:
    """Yields each page of the range as bytes of XML."""
    text = b""  # the beginning of a page, or the last bytes, which may begin a tag
    tail, is_first = b"", start == 0
    place: int = start
    content: bytes | Exception = b""
    for place, content in _contents(file, start, stop):
        is_own = place < stop
        if not is_own and not text:
            return
        if isinstance(content, Exception):
            is_first = False
            if is_own:
                lose(f"stream at byte {place}", str(content))
            text = b""  # a page that is cut by the damage is lost with the stream
            continue
        if is_first:
            _check_dump(path, content)
            is_first = False
        tail = (tail + content)[-64:]
        # After the range, only the page that began in it counts.
        text, limit = text + content, None if is_own else len(text)
        end, begin = 0, text.find(_BEGIN, 0, limit and limit + len(_BEGIN) - 1)
        while begin >= 0:
            if (end := text.find(_END, begin)) < 0:
                break
            end += len(_END)
            yield text[begin:end]
            if not is_own:
                return
            begin = text.find(_BEGIN, end)
        if begin < 0:
            if not is_own:
                return
            begin = max(end, len(text) - len(_BEGIN) + 1)
        text = text[begin:]
    if is_first:
        _check_dump(path, b"")
    elif text.startswith(_BEGIN):
        lose(_name(text), "the file ends in it")
    elif place < stop and isinstance(content, bytes) and tail:
        tail = tail.rstrip()
        if not tail.endswith(_DUMP_END) and not _DUMP_END.endswith(tail):
            lose("end of the file", f"{_DUMP_END.decode()} is missing")


def _check_dump(path: str, head: bytes) -> None:
    if _DUMP_BEGIN not in head[:1000]:
        raise ValueError(
            f"{path}: is not a MediaWiki dump such as pages-articles-multistream.xml.bz2: it "
            f"begins with {head[:20]!r}"
        )


def _name(source: bytes) -> str:
    title = _TITLE.search(source)
    if title is None:
        return "page"
    return f"page {html.unescape(title[1].decode('utf-8', 'replace'))!r}"


def _contents(file: IO[bytes], start: int, stop: int) -> Iterator[tuple[int, bytes | Exception]]:
    """`read_streams`, or of a file that is not compressed the same of its pieces."""
    file.seek(0)
    if file.read(3) == b"BZh":
        yield from read_streams(file, start, stop)
        return
    place = -(-start // _XML_BYTES) * _XML_BYTES
    file.seek(place)
    while content := file.read(_XML_BYTES):
        yield place, content
        place += _XML_BYTES


def read_streams(file: IO[bytes], start: int, stop: int) -> Iterator[tuple[int, bytes | Exception]]:
    """Yields the content of the streams that begin in a range, and of those after it, in order.

    Each item is the byte at which a stream begins, and some MB of its content at most; in place of
    what cannot be read, the error. The caller stops when it has all that began in its range. After
    damage, reading resumes at the next stream that begins in the range. A stream followed by
    anything but a stream counts as damaged. So each damage belongs to exactly one range of a file.
    """
    begin: int | None = find_stream(file, start, stop) if start else 0
    while begin is not None:
        try:
            begin = yield from _content(file, begin)
        except (EOFError, OSError) as error:  # the latter: from `BZ2Decompressor`
            yield begin, error
            begin = find_stream(file, begin + 1, stop)


def find_stream(file: IO[bytes], start: int, stop: int) -> int | None:
    """The first place in a range of bytes that looks like the beginning of a stream."""
    for place in range(start, stop, _READ_BYTES):
        file.seek(place)
        mark = _STREAM.search(file.read(_READ_BYTES + _MARK_BYTES - 1))
        if mark and place + mark.start() < stop:
            return place + mark.start()
    return None


def _content(file: IO[bytes], begin: int) -> Generator[tuple[int, bytes], None, int | None]:
    """Yields the content of a stream; returns where the next one begins, None at the file's end."""
    decompressor, end = bz2.BZ2Decompressor(), begin
    file.seek(begin)
    while not decompressor.eof:
        data = b""
        if decompressor.needs_input:
            # Reads end at fixed places, so what is read before damage is the same for all ranges.
            data = file.read(_READ_BYTES - end % _READ_BYTES)
            if not data:
                raise EOFError("the file ends in it")
            end += len(data)
        if content := decompressor.decompress(data, _CONTENT_BYTES):
            yield begin, content
    end -= len(decompressor.unused_data)
    file.seek(end)
    following = file.read(_MARK_BYTES)
    if following and not _STREAM.match(following):
        raise OSError(f"no stream begins at byte {end}, where it ends")
    return end if following else None
