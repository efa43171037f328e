"""BERT's pre-training examples from documents; see `pipelines.text_examples`."""

import dataclasses
import hashlib
import itertools
import os
from typing import Any

from pipelines.prepare.jobs import ShardJob, ShardResult
from pipelines.shards.shard_files import LineFile, shard_prefix
from pipelines.shards.shard_manifest import TEXT_EXAMPLES
from pipelines.text import wordpiece
from pipelines.text.bert_examples import SPECIALS_PER_EXAMPLE, ExampleSettings
from pipelines.text.documents import Unit, find_units, read_unit
from pipelines.text.wordpiece import MASKED_RATIO

_SHARD_BYTES = 64_000_000  # of text, counted in each pass: a few minutes of work
_FORMAT_VERSION = 1  # raise it when the same settings give other examples


@dataclasses.dataclass(frozen=True)
class TextExamplesJob(ShardJob):
    """Examples from document files: shard s of n makes those of the units s, s + n, s + 2n, ..."""

    kind, unit = TEXT_EXAMPLES, "tokens"

    documents: str  # the glob pattern of the files, for the record
    units: tuple[Unit, ...]
    vocabulary: tuple[str, ...]
    lower_case: bool
    examples: ExampleSettings

    @property
    def vocabulary_sha256(self) -> str:
        return wordpiece.vocabulary_hash(self.vocabulary)

    def size(self) -> tuple[int, int, str]:
        size = sum(part.stop - part.start for unit in self.units for part in unit.parts)
        automatic = round(size * self.examples.duplication / _SHARD_BYTES)
        return automatic, len(self.units), "units of text"

    def settings(self) -> dict[str, Any]:
        # Without the vocabulary, which the manifest records separately.
        return {
            "format_version": _FORMAT_VERSION,
            "documents": self.documents,
            "units": len(self.units),
            "units_sha256": hashlib.sha256(repr(self.units).encode()).hexdigest(),
            "lower_case": self.lower_case,
            **dataclasses.asdict(self.examples),
        }

    def write_shard(self, shard: int, shards: int, file: LineFile) -> ShardResult:
        from pipelines.text.bert_examples import encode_examples, make_examples
        from pipelines.text.tokenization import tokenize_documents

        counts = {"documents": 0, "random_next": 0, "tokens": 0}
        damaged: list[dict] = []
        for unit in range(shard, len(self.units), shards):  # one in memory at a time
            texts = read_unit(self.units[unit], damaged)
            documents = tokenize_documents(texts, self.vocabulary, self.lower_case)
            counts["documents"] += len(documents)
            batches = make_examples(documents, self.vocabulary, self.examples, unit, shuffle=True)
            for fields in batches:
                counts["random_next"] += int(fields["next_sentence_labels"].sum())
                counts["tokens"] += int(fields["input_mask"].sum())
                file.write(*encode_examples(fields))
        return counts, damaged


def job(values: Any) -> TextExamplesJob:
    """The job of a command's values; refuses a vocabulary of another case, which gives [UNK]."""
    for name in ("whole_word", "max_predictions"):
        if values.dynamic_masking and getattr(values, name):
            raise ValueError(
                f"{name} has no effect with dynamic_masking; set data.text.masking.{name} of the "
                "training instead"
            )
    vocabulary = wordpiece.read_vocabulary(values.vocabulary)
    if values.cased != ((token := wordpiece.cased_token(vocabulary)) is not None):
        holds = f"{token!r}, so it is cased" if token else "no upper case, so it is not cased"
        raise ValueError(f"{values.vocabulary}: holds {holds}; cased={values.cased}")
    units = find_units(values.documents, unit_bytes=round(values.unit_megabytes * 2**20))
    damaged = [] if values.skip_damaged else None
    documents = (document for unit in units for document in read_unit(unit, damaged))
    with_text = (document for document in documents if any(map(str.strip, document.paragraphs)))
    if (count := len(list(itertools.islice(with_text, 2)))) < 2:
        raise ValueError(
            f"{values.documents}: {count} documents with text; two are needed, as a random next "
            "sentence comes from another document"
        )
    for file in {part.file for unit in units for part in unit.parts}:
        if shard_prefix(os.path.realpath(file)) == os.path.realpath(values.output):
            raise ValueError(f"{values.output}: would overwrite {file}, which is read")
    room = values.max_length - SPECIALS_PER_EXAMPLE
    settings = ExampleSettings(
        max_length=values.max_length,
        max_predictions=values.max_predictions or max(1, round(MASKED_RATIO * room)),
        seed=values.seed,
        duplication=values.duplication,
        whole_word=values.whole_word,
        dynamic=values.dynamic_masking,
    )
    return TextExamplesJob(values.documents, units, tuple(vocabulary), not values.cased, settings)
