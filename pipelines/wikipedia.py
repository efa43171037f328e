"""Extracts the articles of a Wikipedia dump as documents of prose paragraphs.

    python -m pipelines.wikipedia \\
        --dump=enwiki-latest-pages-articles-multistream.xml.bz2 --output=PREFIX

The dump comes from https://dumps.wikimedia.org, whole or in several files, and is read as it is.
Each worker unpacks its part of a multistream dump, but other bzip2 files from their beginning.
Every line of the output `PREFIX-00000-of-...` is one article,
`{"title": ..., "paragraphs": [...]}`. Lists, tables, headings, captions, references, templates,
redirects and disambiguation pages are left out. The same command resumes a run that was stopped.

All cores of this machine work, or four processes with `-- --direct_num_workers=4`. Apache Beam, if
installed, runs the work elsewhere: `-- --runner=DataflowRunner --project=... --region=...
--temp_location=gs://... --setup_file=./setup.py`.
"""

import dataclasses
import os
import re
import sys
from collections.abc import Iterator

from pipelines import command_line
from pipelines.files import find_files
from pipelines.flags import define_flags
from pipelines.prepare.shard_job import (
    ShardJob,
    check_job,
    choose_shards,
    parse_job_flags,
    run_job,
)
from pipelines.prepare.wikipedia_dump import Page, is_divisible, read_pages
from pipelines.prepare.wikitext import passages
from pipelines.shards.shard_manifest import DOCUMENTS
from pipelines.text.documents import Document, to_json

_FORMAT_VERSION = 2  # raise it when the same shard of a dump gives other documents
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

    def default_shards(self):
        """The number of shards with a few minutes of work each."""
        return max(1, round(sum(size for _, size in self.files) / _SHARD_BYTES))

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


def _warn_of_single_streams(files):
    """Warns of large files that take more time than necessary."""
    single = [path for path, size in files if size > _SHARD_BYTES and not is_divisible(path)]
    if single:
        command_line.say(
            f"{single[0]}{' and others' * (len(single) > 1)}: one bzip2 stream, which is unpacked"
            " from its beginning for every shard; take the multistream dump, or few --shards"
        )


def main(argv):
    """The command.

    Args:
        argv: list of str, without the program's name.
    """
    values = define_flags(
        ("dump", None, "Files of the dump: comma-separated paths or patterns, local or gs://."),
        ("output", None, "Prefix of the output files, local or gs://."),
        ("shards", None, "Output files. Default: one for every 32 MB of the dump.", 1),
        ("max_bad_records", 0, "Damaged streams and pages of the dump that may be left out.", 0),
    )
    workers = parse_job_flags(values, argv, __doc__, ("dump", "output"))
    check_job(values.output, workers)

    command_line.load_tensorflow()
    job = WikipediaJob(tuple(find_files(values.dump).items()))
    _warn_of_single_streams(job.files)
    size = sum(size for _, size in job.files)
    shards = choose_shards(
        values.output, values.shards, job.default_shards(), size, "bytes of the dump"
    )
    run_job(job, values.output, shards, workers, max_bad_records=values.max_bad_records)


if __name__ == "__main__":
    sys.exit(command_line.run(main))
