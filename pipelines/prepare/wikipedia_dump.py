"""Reads pages from a Wikipedia dump, `pages-articles-multistream.xml.bz2`, or from any part of it.

A dump is divided into byte ranges of the compressed file. A page belongs to the range in which the
bzip2 stream with its `<page>` tag begins; reading continues after the range until that page ends.
So adjoining ranges give each page once, and one process need not read what another does. If a dump
is a single stream, everything before the range is unpacked too, and a page belongs to the range
with the bytes that its tag was unpacked from.

A bzip2 file is one or more streams, end to end; Wikipedia's multistream dumps hold one for every
hundred pages. A stream begins at a byte boundary, always with the same letters. A search for them
finds the first stream of a range; each later one begins where the one before it ends. The letters
occur inside a stream by chance, about once in 10^22 bytes. Nothing can be unpacked from there, so
that place counts as damage, but the stream around it is read whole, by its own range.
"""

import bz2
import dataclasses
import html
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

from pipelines.files import reading

_BEGIN, _END = b"<page>", b"</page>"
_DUMP_BEGIN, _DUMP_END = b"<mediawiki", b"</mediawiki>"
_XML_BYTES = 1 << 20  # a dump that is not compressed is read in pieces of this size
_PAGE_BYTES = 1 << 24  # MediaWiki's pages have 2 MiB at most
_LARGE_STREAM_BYTES = 1 << 24  # streams of multistream dumps are about a tenth of this
_TITLE = re.compile(rb"<title>(.*?)</title>", re.DOTALL)

_STREAM = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")  # the latter: a stream without content
_MARK_BYTES = 10
_READ_BYTES = 1 << 16  # compressed; at the highest level a block takes some 200 kB
_CONTENT_BYTES = 1 << 24  # of a piece at most: a file of one repeated letter grows a million times


@dataclasses.dataclass(frozen=True)
class Page:
    """A page of a dump.

    Attributes:
        namespace: articles are in 0.
        wikitext: its source in MediaWiki's markup.
    """

    title: str
    namespace: int
    is_redirect: bool
    wikitext: str


def read_pages(
    path: str, start: int = 0, stop: int | None = None, damaged: list[dict] | None = None
) -> Iterator[Page]:
    """Yields the pages that begin in a range of a dump, in order.

    Memory holds a page and a few MB of the file at a time.

    Args:
        path: a dump compressed with bzip2 or not compressed, local or `gs://`.
        start, stop: a range in bytes of the file; to its end by default.
        damaged: gets a dict of `file`, `record` and `reason` for each stream and each page that
            cannot be read. By default these are errors.

    Raises:
        ValueError: the file is missing, is not a dump, or is damaged and `damaged` is None.
    """

    def lose(record, reason):
        if damaged is None:
            raise ValueError(f"{path}: not a whole MediaWiki dump ({record}: {reason})")
        damaged.append({"file": str(path), "record": record, "reason": reason})

    with reading(path) as (file, size):
        stop = size if stop is None else stop
        for source in _page_sources(path, file, size, start, stop, lose):
            try:
                yield _parse(source)
            except (ElementTree.ParseError, KeyError, ValueError) as error:
                lose(_name(source), f"is not a page of a dump: {error}")


def is_divisible(path: str) -> bool:
    """Whether the parts of a dump can be read independently: it is XML, or has several streams.

    Not if the first stream is much longer than one of a multistream dump.
    """
    with reading(path) as (file, size):
        return file.read(3) != b"BZh" or _has_streams(file, size)


def _has_streams(file, size):
    return find_stream(file, 1, min(size, _LARGE_STREAM_BYTES)) is not None


def _page_sources(path, file, size, start, stop, lose):
    """Yields each page of the range as bytes of XML."""
    text = b""  # the beginning of a page, or of its first tag
    tail = b""  # the last bytes of the range
    is_own, is_first = False, start == 0
    for place, piece in _pieces(file, size, start, stop):
        is_own = place < stop
        if is_first and piece.data is not None:
            _check_dump(path, piece.data)
        is_first = False
        if not is_own and not text:
            return
        if piece.data is None:
            stream = f"stream at byte {piece.begin}"
            if is_own:
                lose(stream, piece.reason)
            if text.startswith(_BEGIN):
                lose(_name(text), f"is cut by the damaged {stream}")
            text = b""
            continue
        text += piece.data
        tail = (tail + piece.data)[-64:]
        position = 0
        # After the range, only the page that began in it counts.
        while (begin := text.find(_BEGIN, position)) == 0 or (is_own and begin > 0):
            end = text.find(_END, begin)
            if end < 0:
                break
            position = end + len(_END)
            yield text[begin:position]
        if begin < 0:  # the last bytes may be the beginning of a tag
            begin = len(text) - _overlap(text[position:], _BEGIN)
        if begin > 0 and not is_own:
            return
        text = text[begin:]
        if len(text) > _PAGE_BYTES:
            lose(_name(text), f"is longer than {_PAGE_BYTES:,} bytes")
            text = b""
    if is_first:
        _check_dump(path, b"")
    elif text.startswith(_BEGIN):
        lose(_name(text), "the file ends in it")
    elif is_own and piece.data is not None:
        tail = tail.rstrip()
        if not tail.endswith(_DUMP_END) and not _DUMP_END.endswith(tail):
            lose("end of the file", f"{_DUMP_END.decode()} is missing")


def _check_dump(path, head):
    if _DUMP_BEGIN not in head[:1000]:
        raise ValueError(
            f"{path}: is not a MediaWiki dump such as pages-articles-multistream.xml.bz2: it "
            f"begins with {head[:20]!r}"
        )


def _overlap(text, tag):
    """How many bytes at the end of a text are the beginning of a tag."""
    return next((n for n in range(len(tag) - 1, 0, -1) if text.endswith(tag[:n])), 0)


def _pieces(file, size, start, stop):
    """Yields (place in the file, `Piece`) from `start` on, at least up to `stop`."""
    if file.read(3) != b"BZh":
        for place in range(-(-start // _XML_BYTES) * _XML_BYTES, size, _XML_BYTES):
            file.seek(place)
            yield place, Piece(place, place, file.read(_XML_BYTES))
    elif _has_streams(file, size):
        for piece in read_streams(file, start, stop):
            yield piece.begin, piece
    else:
        place = 0
        for piece in read_streams(file, 0, size):
            place = max(place, piece.place)  # after damage reading may go back a little
            if place >= start:
                yield place, piece


def _parse(source):
    page = ElementTree.fromstring(source)
    fields = {element.tag: element for element in page.iter()}
    return Page(
        title=fields["title"].text or "",
        namespace=int(fields["ns"].text or ""),
        is_redirect="redirect" in fields,
        wikitext=fields["text"].text or "",
    )


def _name(source):
    title = _TITLE.search(source)
    if title is None:
        return "page"
    return f"page {html.unescape(title[1].decode('utf-8', 'replace'))!r}"


@dataclasses.dataclass(frozen=True)
class Piece:
    """Some of the content of a stream.

    Attributes:
        begin: the byte of the file at which the stream begins.
        place: a byte of the file that it was read from.
        data: None where the rest of the stream cannot be read.
        reason: what is wrong with the stream.
    """

    begin: int
    place: int
    data: bytes | None = dataclasses.field(repr=False)
    reason: str | None = None


def read_streams(file, start: int, stop: int) -> Iterator[Piece]:
    """Yields the content of the streams that begin in a range, and of those after it, in order.

    The caller stops when it has all that began in its range. After damage, reading resumes at the
    next stream that begins in the range. A stream followed by anything but a stream counts as
    damaged. So each damage belongs to exactly one range of a file.

    Args:
        file: seekable binary file.
        start, stop: a range in bytes of the compressed file.

    Yields:
        Some MB of content at most.
    """
    begin = find_stream(file, start, stop) if start else 0
    while begin is not None:
        try:
            begin = yield from _content(file, begin)
        except (EOFError, OSError) as error:  # the latter: from `BZ2Decompressor`
            yield Piece(begin, file.tell() - 1, None, str(error))
            begin = find_stream(file, begin + 1, stop)


def find_stream(file, start: int, stop: int) -> int | None:
    """The first place in a range of bytes that looks like the beginning of a stream."""
    for place in range(start, stop, _READ_BYTES):
        file.seek(place)
        mark = _STREAM.search(file.read(_READ_BYTES + _MARK_BYTES - 1))
        if mark and place + mark.start() < stop:
            return place + mark.start()
    return None


def _content(file, begin):
    """Yields the content of a stream; returns where the next one begins, None at the file's end."""
    decompressor, place, end = bz2.BZ2Decompressor(), begin, begin
    file.seek(begin)
    while not decompressor.eof:
        data = b""
        if decompressor.needs_input:
            place = end
            # Reads end at fixed places, so what is read before damage is the same for all ranges.
            data = file.read(_READ_BYTES - place % _READ_BYTES)
            if not data:
                raise EOFError("the file ends in it")
            end += len(data)
        if content := decompressor.decompress(data, _CONTENT_BYTES):
            yield Piece(begin, place, content)
    end -= len(decompressor.unused_data)
    file.seek(end)
    following = file.read(_MARK_BYTES)
    if following and not _STREAM.match(following):
        raise OSError(f"no stream begins at byte {end}, where it ends")
    return end if following else None
