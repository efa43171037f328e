"""Documents from the articles of a Wikipedia dump; see `pipelines.wikipedia`."""

import dataclasses
import os
import re
from collections.abc import Iterator

from pipelines.command_line import say
from pipelines.files import find_files
from pipelines.prepare.jobs import ShardJob
from pipelines.prepare.wikipedia_dump import Page, is_divisible, read_pages
from pipelines.prepare.wikitext import passages
from pipelines.shards.shard_manifest import DOCUMENTS
from pipelines.text.documents import Document, to_json

_FORMAT_VERSION = 3  # raise it when the same shard of a dump gives other documents
_SHARD_BYTES = 32_000_000  # of the compressed dump: a few minutes of work

_DISAMBIGUATION = re.compile(
    r"\{\{\s*+(?:[\w -]*disambig(?:uation)?(?:[ -]cleanup)?|disamb|dab|hndis|geodis|numberdis"
    r"|schooldis|mathdab|set index article|surname|given name)\s*[|}]",
    re.IGNORECASE,
)


def read_documents(path: str) -> Iterator[Document]:
    """Yields the articles that have prose, in order, of a dump, compressed with bzip2 or not.

    Pages outside the article namespace, redirects and disambiguation pages are skipped.

    Raises:
        ValueError: the file is missing, or is not a whole MediaWiki dump.
    """
    return filter(None, map(to_document, read_pages(path)))


def to_document(page: Page) -> Document | None:
    """The prose of a page; None if the page is not an article or has no prose."""
    if page.namespace != 0 or page.is_redirect or page.title.endswith("(disambiguation)"):
        return None
    if _DISAMBIGUATION.search(page.wikitext):
        return None
    paragraphs = passages(page.wikitext)
    return Document(page.title, tuple(paragraphs)) if paragraphs else None


@dataclasses.dataclass(frozen=True)
class WikipediaJob(ShardJob):
    """Documents from a dump.

    Shard `s` of `n` takes the pages in the `s`-th of `n` equal parts of the dump's bytes.

    Attributes:
        files: tuple of (path, bytes), in order.
    """

    kind, unit = DOCUMENTS, "words"

    files: tuple[tuple[str, int], ...]

    def settings(self):
        return {
            "dump": [[os.path.basename(path), size] for path, size in self.files],
            "wikipedia_version": _FORMAT_VERSION,
        }

    def write_shard(self, shard, shards, file):
        counts = {"pages": 0, "documents": 0, "words": 0}
        damaged = []
        for path, start, stop in self._ranges(shard, shards):
            for page in read_pages(path, start, stop, damaged):
                counts["pages"] += 1
                document = to_document(page)
                if document is not None:
                    file.write(to_json(document))
                    counts["documents"] += 1
                    counts["words"] += sum(len(text.split()) for text in document.paragraphs)
        return counts, damaged

    def size(self):
        size = sum(size for _, size in self.files)
        return round(size / _SHARD_BYTES), size, "bytes of the dump"

    def _ranges(self, shard, shards):
        """Yields (path, start, stop) for a shard's part of the files, as if they were one file."""
        total = sum(size for _, size in self.files)
        start, stop = total * shard // shards, total * (shard + 1) // shards
        before = 0
        for path, size in self.files:
            part = max(0, start - before), min(size, stop - before)
            if part[0] < part[1]:
                yield path, *part
            before += size


def job(dump: str) -> WikipediaJob:
    """The job of the files of a dump; warns of large ones that take more time than necessary."""
    made = WikipediaJob(tuple(find_files(dump).items()))
    single = [path for path, size in made.files if size > _SHARD_BYTES and not is_divisible(path)]
    if single:
        say(
            f"{single[0]}{' and others' * (len(single) > 1)}: one bzip2 stream, which is unpacked "
            "from its beginning for every shard; take the multistream dump, or few shards"
        )
    return made
