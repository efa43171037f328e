"""Reads pages from a Wikipedia dump, `pages-articles.xml.bz2`, or from any part of it.

A dump is divided by ranges of bytes of the compressed file. A page belongs to the range in whose
blocks its `<page>` tag begins; reading goes on after the range until that page ends. So ranges that
follow each other give each page once, and one process need not read what another does.
"""

import dataclasses
import html
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

from pipelines.command_line import UserError
from pipelines.text.bzip2_blocks import Block, open_binary, read_blocks

_BEGIN, _END = b"<page>", b"</page>"
_DUMP_BEGIN, _DUMP_END = b"<mediawiki", b"</mediawiki>"
_XML_BLOCK_BYTES = 1 << 20  # a dump that is not compressed is read in blocks of this size
_TITLE = re.compile(rb"<title>(.*?)</title>", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Page:
    """A page of a dump.

    Attributes:
        title: str.
        namespace: int; articles are in 0.
        is_redirect: bool.
        wikitext: str, its source in MediaWiki's markup.
    """

    title: str
    namespace: int
    is_redirect: bool
    wikitext: str


def read_pages(path, start=0, stop=None, damaged=None) -> Iterator[Page]:
    """Yields the pages that begin in a range of a dump, in order.

    Memory holds a page and a few MB of the file at a time.

    Args:
        path: str, a dump compressed with bzip2 or not compressed, local or `gs://`.
        start, stop: int, a range in bytes of the file; to its end by default.
        damaged: list, takes a dict of `file`, `record` and `reason` for each block and each page
            that cannot be read. By default these are errors.

    Raises:
        UserError: the file is missing, is no dump, or is damaged and `damaged` is None.
    """

    def lose(record, reason):
        if damaged is None:
            raise UserError(
                f"{path}: not a whole MediaWiki dump ({record}: {reason}); download it again"
            )
        damaged.append({"file": str(path), "record": record, "reason": reason})

    for source in _page_sources(path, start, stop, lose):
        try:
            yield _parse(source)
        except (ElementTree.ParseError, KeyError, ValueError) as error:
            lose(_name(source), f"is no page of a dump: {error}")


def _page_sources(path, start, stop, lose):
    """Yields each page of the range as bytes of XML."""
    text = b""  # what may hold a page that has not been given yet
    own = 0  # how many bytes of it are from the range
    tail = b""  # the last bytes of the range
    is_own, is_first = False, start == 0
    for block in _blocks(path, start):
        is_own = stop is None or block.bit < 8 * stop
        if is_first and block.data is not None:
            _check_dump(path, block.data)
        is_first = False
        if not is_own and not text:
            return
        if block.data is None:
            if is_own:
                lose(block.place, block.reason)
            if text.startswith(_BEGIN):
                lose(_name(text), f"is cut by the damaged {block.place}")
            text, own = b"", 0
            continue
        text += block.data
        if is_own:
            own = len(text)
            tail = (tail + block.data)[-64:]
        position = 0
        while 0 <= (begin := text.find(_BEGIN, position)) < own:
            end = text.find(_END, begin)
            if end < 0:
                break
            position = end + len(_END)
            yield text[begin:position]
        if begin < 0:  # the last bytes may be the beginning of a tag
            begin = len(text) - _overlap(text[position:], _BEGIN)
        text = text[begin:] if begin < own else b""
        own = max(0, own - begin)
    if is_first:
        _check_dump(path, b"")
    elif text.startswith(_BEGIN):
        lose(_name(text), "the file ends in it")
    elif is_own and block.data is not None:
        tail = tail.rstrip()
        if not tail.endswith(_DUMP_END) and not _DUMP_END.endswith(tail):
            lose("end of the file", f"{_DUMP_END.decode()} is missing")


def _check_dump(path, head):
    if _DUMP_BEGIN not in head[:1000]:
        raise UserError(
            f"{path}: is no MediaWiki dump, it begins with {head[:20]!r}; give a "
            "pages-articles.xml.bz2"
        )


def _overlap(text, tag):
    """How many bytes at the end of a text are the beginning of a tag."""
    return next((n for n in range(len(tag) - 1, 0, -1) if text.endswith(tag[:n])), 0)


def _blocks(path, start):
    """Yields the blocks of a dump from a place on."""
    with open_binary(path) as (stream, _):
        head = stream.read(3)
        if head == b"BZh":
            yield from read_blocks(path, start, damaged=True)
            return
        place = -(-start // _XML_BLOCK_BYTES) * _XML_BLOCK_BYTES
        stream.seek(place)
        while data := stream.read(_XML_BLOCK_BYTES):
            yield Block(8 * place, data)
            place += len(data)


def _parse(source):
    page = ElementTree.fromstring(source)
    fields = {element.tag: element for element in page.iter()}
    return Page(
        title=fields["title"].text,
        namespace=int(fields["ns"].text),
        is_redirect="redirect" in fields,
        wikitext=fields["text"].text or "",
    )


def _name(source):
    title = _TITLE.search(source)
    if title is None:
        return "page"
    return f"page {html.unescape(title[1].decode('utf-8', 'replace'))!r}"
