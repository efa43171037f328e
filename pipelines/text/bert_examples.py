"""BERT's pre-training examples: pairs of text segments, 15 % of their tokens masked.

The recipe is that of BERT (Devlin et al., 2019, section 3.1 and appendix A.2), the field names and
the label (1 = the second segment is random) those of Google's `create_pretraining_data.py`. Four
choices are ours. The shorter length is drawn for each pair, not once for each document. Whether the
second segment is random is drawn first, and any other pair takes at least two sentences: half of
the pairs are random, however long the sentences are. A random second segment always comes from
another document. And that document is one of the same unit, which are in memory together.

A unit's examples depend on its documents, the settings and random numbers keyed by (seed, unit,
pass over it), so units can be worked on in any order and place.
"""

import os
from collections.abc import Iterator

import numpy as np

from pipelines.shards import tfrecords
from pipelines.shards.shard_manifest import TEXT_EXAMPLES
from pipelines.text.documents import too_few_documents
from pipelines.text.example_settings import ExampleSettings
from pipelines.text.masking import Masking
from pipelines.text.pairs import SPECIALS_PER_EXAMPLE, lay_out, make_pairs

_EXAMPLES_PER_CALL = 256  # a few MiB of arrays; part of the format, as masks are drawn by call
_PAIRS, _ORDER_AND_MASKS = 0, 1  # keys of random numbers


def make_examples(documents, vocabulary, settings, unit=0, shuffle=False) -> Iterator[dict]:
    """Makes the examples of a unit of documents.

    Args:
        documents: `TokenizedDocuments`.
        vocabulary: sequence of str.
        settings: `ExampleSettings`.
        unit: int, the place of these documents among all units: the key of what is random.
        shuffle: bool; otherwise pass after pass and document after document.

    Yields:
        The fields of some hundred examples: dict of int32 and float32 arrays `(count, values)`, see
        `build_examples`.
    """
    if not len(documents):
        return
    pairs = np.concatenate(
        [
            make_pairs(
                documents,
                settings.max_length - SPECIALS_PER_EXAMPLE,
                settings.short_sequence_probability,
                np.random.default_rng((settings.seed, unit, _PAIRS, turn)),
            )
            for turn in range(settings.duplication)
        ]
    )
    random = np.random.default_rng((settings.seed, unit, _ORDER_AND_MASKS, 0))
    if shuffle:
        pairs = pairs[random.permutation(len(pairs))]
    masking = Masking(
        tuple(vocabulary), settings.max_predictions, settings.masked_ratio, settings.whole_word
    )
    for start in range(0, len(pairs), _EXAMPLES_PER_CALL):
        chosen = pairs[start : start + _EXAMPLES_PER_CALL]
        fields = lay_out(chosen, documents.tokens, vocabulary, settings.max_length)
        if not settings.dynamic:
            fields |= masking.static(fields["input_ids"], fields["input_mask"], random)
        yield fields


def build_examples(documents, *, vocabulary, **settings) -> Iterator[dict]:
    """Makes BERT's pre-training examples of documents that are in memory, in their order.

    Args:
        documents: `TokenizedDocuments`.
        vocabulary: sequence of str.
        settings: of `ExampleSettings`.

    Returns:
        Iterator of dicts of NumPy arrays. Of length `max_length`, int32: `input_ids`,
        `input_mask` (1 for a token, 0 for padding) and `segment_ids` (0 up to the first [SEP],
        1 up to the second). Of length `max_predictions`: `masked_lm_positions` (int32,
        ascending), `masked_lm_ids` (int32, the tokens before masking) and `masked_lm_weights`
        (float32, 1 for a prediction, 0 for padding). Of length 1: `next_sentence_labels` (int32).
        With `dynamic` there are no `masked_lm` fields and nothing is masked.

    Raises:
        UserError: there are fewer than two documents, or `max_length` holds no pair.
    """
    if len(documents) < 2:
        raise too_few_documents(len(documents))
    batches = make_examples(documents, list(vocabulary), ExampleSettings(**settings))
    return (
        dict(zip(fields, row, strict=True))
        for fields in batches
        for row in zip(*fields.values(), strict=True)
    )


def write_text_examples(examples, prefix, shards, shuffle_seed=None, **manifest):
    """Writes examples to TFRecord files `PREFIX-00000-of-00004` and so on.

    Args:
        examples: iterable of dicts of NumPy arrays.
        prefix: str, local or `gs://`.
        shards: int, how many files.
        shuffle_seed: int, shuffles all examples first, in memory. Neighbours come from one
            document otherwise, and a reader needs a large buffer to separate them.
        manifest: what the manifest says, see `tfrecords.write_shards`.

    Returns:
        int, how many examples were written.
    """
    serialized = map(tfrecords.to_example, examples)
    if shuffle_seed is not None:
        serialized = list(serialized)
        np.random.default_rng(shuffle_seed).shuffle(serialized)
    return tfrecords.write_shards(
        serialized, os.fspath(prefix), shards, kind=TEXT_EXAMPLES, **manifest
    )
