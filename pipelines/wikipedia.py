"""Reads a Wikipedia dump: `pages-articles.xml.bz2` in, articles made of prose paragraphs out.

The reader streams: it holds one page at a time, whatever the size of the dump.
"""

import bz2
import dataclasses
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

from keras_vitbert.command_line import UserError
from pipelines.wikitext import passages

__all__ = ["Document", "passages", "read_documents"]

_DISAMBIGUATION = re.compile(
    r"\{\{\s*(?:[\w -]*disambig(?:uation)?(?:[ -]cleanup)?|disamb|dab|hndis|geodis|numberdis"
    r"|schooldis|mathdab|set index article|surname|given name)\s*[|}]",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class Document:
    """One article: its title, and its prose paragraphs in the order of the page."""

    title: str
    paragraphs: tuple[str, ...]


def read_documents(path) -> Iterator[Document]:
    """Yields the articles of a dump that have prose.

    Pages outside the article namespace, redirects and disambiguation pages are passed over.

    Args:
        path: str, a `pages-articles` dump compressed with bzip2, local.

    Raises:
        UserError: the file is missing, or is not a whole bzip2 file of MediaWiki XML.
    """
    for title, wikitext in _articles(path):
        if not title.endswith("(disambiguation)") and not _DISAMBIGUATION.search(wikitext):
            paragraphs = passages(wikitext)
            if paragraphs:
                yield Document(title, tuple(paragraphs))


def _articles(path):
    """Yields (title, wikitext) of the pages in namespace 0 that are not redirects."""
    try:
        with bz2.open(path) as stream:
            for page in _pages(stream):
                fields = {_local_name(element): element for element in page.iter()}
                if fields["ns"].text == "0" and "redirect" not in fields:
                    yield fields["title"].text, fields["text"].text or ""
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; give the path of a pages-articles.xml.bz2"
        ) from None
    except (OSError, EOFError, ElementTree.ParseError, KeyError) as error:
        raise UserError(
            f"{path}: not a whole MediaWiki dump compressed with bzip2 ({error}); download it again"
        ) from error


def _pages(stream):
    """Yields the `page` elements, and forgets each one afterwards: bounded memory."""
    events = ElementTree.iterparse(stream, events=("start", "end"))
    _, root = next(events)
    if _local_name(root) != "mediawiki":
        raise ElementTree.ParseError(f"it begins with <{_local_name(root)}>")
    for event, element in events:
        if event == "end" and _local_name(element) == "page":
            yield element
            root.clear()


def _local_name(element):
    return element.tag.rpartition("}")[2]  # the namespace holds the version of the export format
