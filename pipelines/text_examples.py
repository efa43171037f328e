"""Makes BERT's pre-training examples from documents: segment pairs, 15 % of their tokens masked.

    python -m pipelines.text_examples --documents='wiki/*-of-*,books/*-of-*' \\
        --vocabulary=vocab.txt --output=gs://bucket/examples/text [--shards=64] \\
        [--duplication=10] [--whole_word] ... [-- --runner=DataflowRunner --project=... ]

Documents are those of `pipelines.wikipedia` and `pipelines.books`, or files in the format of
Google's BERT: one sentence a line, blank lines between documents. What follows `--` says where
the work is done, see `pipelines.wikipedia`. The same command resumes a run that was stopped.

The recipe is in `pipelines.text.bert_examples`. The text is processed in units of about
`--unit_megabytes`; no more than one is ever in memory. A unit's documents are tokenized once for
all passes over them. Random second segments come from other documents of the unit. The examples of
all passes are shuffled before they are written. A document as large as a unit may be alone in one;
it has no random second segments.

Examples do not depend on the number of shards and workers. With `--dynamic_masking` the files hold
pairs without masks, and the training stream masks them anew in every epoch.
"""

import dataclasses
import hashlib
import itertools
import os
import sys

from pipelines import command_line
from pipelines.command_line import MAX_SEED
from pipelines.files import check_no_input
from pipelines.flags import define_flags
from pipelines.jobs import shard_job
from pipelines.shards.shard_files import shard_path
from pipelines.shards.shard_manifest import TEXT_EXAMPLES
from pipelines.text import documents as document_files
from pipelines.text import wordpiece
from pipelines.text.bert_examples import (
    MASKED_RATIO,
    MAX_LENGTH,
    MIN_LENGTH,
    SPECIALS_PER_EXAMPLE,
    ExampleSettings,
)

_SHARD_BYTES = 64_000_000  # of text, counted in each pass: a few minutes of work
_FORMAT_VERSION = 1  # raise it when the same settings give other examples


@dataclasses.dataclass(frozen=True)
class TextExamplesJob(shard_job.ShardJob):
    """Examples from document files: shard s of n makes those of the units s, s + n, s + 2n, ...

    Attributes:
        documents: str, the glob pattern of the files, for the record.
        units: tuple of `documents.Unit`.
        vocabulary: tuple of str.
        lower_case: bool, as when the vocabulary was learned.
        examples: `ExampleSettings`.
    """

    kind, unit = TEXT_EXAMPLES, "tokens"

    documents: str
    units: tuple[document_files.Unit, ...]
    vocabulary: tuple[str, ...]
    lower_case: bool
    examples: ExampleSettings

    def settings(self):
        # Without the vocabulary, which the manifest records separately.
        return {
            "format_version": _FORMAT_VERSION,
            "documents": self.documents,
            "units": len(self.units),
            "units_sha256": hashlib.sha256(repr(self.units).encode()).hexdigest(),
            "lower_case": self.lower_case,
            **dataclasses.asdict(self.examples),
        }

    def write_shard(self, shard, shards, file):
        from pipelines.text.bert_examples import encode_examples, make_examples
        from pipelines.text.tokenization import tokenize_documents

        counts = dict.fromkeys(("documents", "random_next", "tokens"), 0)
        damaged = []
        for unit in range(shard, len(self.units), shards):  # one in memory at a time
            texts = document_files.read_unit(self.units[unit], damaged)
            documents = tokenize_documents(texts, self.vocabulary, self.lower_case)
            counts["documents"] += len(documents)
            batches = make_examples(documents, self.vocabulary, self.examples, unit, shuffle=True)
            for fields in batches:
                counts["random_next"] += int(fields["next_sentence_labels"].sum())
                counts["tokens"] += int(fields["input_mask"].sum())
                file.write(*encode_examples(fields))
        return counts, damaged


def check_documents(
    units: tuple[document_files.Unit, ...], damaged: list[dict] | None = None
) -> None:
    """Checks that there are two documents with text.

    Args:
        damaged: see `documents.read_unit`.

    Raises:
        ValueError: there are fewer, or a line before the second one is damaged.
    """
    found = (document for unit in units for document in document_files.read_unit(unit, damaged))
    found = (document for document in found if any(map(str.strip, document.paragraphs)))
    if (count := len(list(itertools.islice(found, 2)))) < 2:
        raise ValueError(
            f"{count} documents with text; two are needed, as a random next sentence comes from "
            "another document"
        )


def check_case(path: str, vocabulary: list[str], lower_case: bool) -> None:
    """Checks that a vocabulary has the case asked for; otherwise all would be [UNK].

    Raises:
        ValueError: they differ.
    """
    upper = wordpiece.cased_token(vocabulary)
    if lower_case == (upper is not None):
        is_so = f"{upper!r}, so give" if upper else "no upper case, so leave out"
        raise ValueError(f"{path}: holds {is_so} --cased")


def main(argv):
    """The command.

    Args:
        argv: list of str, without the program's name.
    """
    values = define_flags(
        ("documents", None, "Comma-separated patterns of document files."),
        ("vocabulary", None, "vocab.txt, of `python -m pipelines.vocabulary` or of Google's BERT."),
        ("output", None, "Prefix of the output files, local or gs://."),
        (
            "shards",
            None,
            "Output files. Default: one for every 64 MB of text, counted in each pass.",
            1,
        ),
        ("max_length", 512, "Tokens of an example.", MIN_LENGTH, MAX_LENGTH),
        (
            "max_predictions",
            None,
            "Masked tokens of an example at most. Default: 15 % of all.",
            1,
            MAX_LENGTH,
        ),
        ("duplication", 10, "Passes over the text, each with other pairs and masks.", 1),
        ("seed", 0, "Seed of pairs, masks and shuffles.", 0, MAX_SEED),
        ("unit_megabytes", 8.0, "Text that is in memory at a time.", 1e-3),
        ("max_bad_records", 0, "Damaged documents that may be left out.", 0),
        ("cased", False, "The vocabulary distinguishes upper case from lower."),
        ("whole_word", False, "Mask the pieces of a word together."),
        ("dynamic_masking", False, "Write no masks: training masks anew in every epoch."),
    )
    workers = shard_job.parse_job_flags(
        values, argv, __doc__, ("documents", "vocabulary", "output")
    )
    for flag in ("whole_word", "max_predictions"):
        if values.dynamic_masking and getattr(values, flag):
            raise ValueError(
                f"--{flag} has no effect with --dynamic_masking; leave it out, and train with "
                f"--config.data.text.masking.{flag}"
            )
    shard_job.check_job(values.output, workers)

    command_line.load_tensorflow()
    vocabulary = wordpiece.read_vocabulary(values.vocabulary)
    check_case(values.vocabulary, vocabulary, not values.cased)
    units = document_files.find_units(
        values.documents, unit_bytes=round(values.unit_megabytes * 2**20)
    )
    check_documents(units, [] if values.max_bad_records else None)
    room = values.max_length - SPECIALS_PER_EXAMPLE
    settings = ExampleSettings(
        max_length=values.max_length,
        max_predictions=values.max_predictions or max(1, round(MASKED_RATIO * room)),
        seed=values.seed,
        duplication=values.duplication,
        whole_word=values.whole_word,
        dynamic=values.dynamic_masking,
    )
    size = sum(part.stop - part.start for unit in units for part in unit.parts)
    shards = shard_job.choose_shards(
        values.output,
        values.shards,
        round(size * values.duplication / _SHARD_BYTES),
        len(units),
        "units of --unit_megabytes",
    )
    read = {part.file for unit in units for part in unit.parts}
    names = set(map(os.path.basename, read))
    for shard in range(shards):
        path = shard_path(values.output, shard, shards)
        if os.path.basename(path) in names:
            check_no_input(path, read)
    shard_job.run_job(
        TextExamplesJob(values.documents, units, tuple(vocabulary), not values.cased, settings),
        values.output,
        shards,
        workers,
        max_bad_records=values.max_bad_records,
        vocabulary_sha256=wordpiece.vocabulary_hash(vocabulary),
    )


if __name__ == "__main__":
    sys.exit(command_line.run(main))
