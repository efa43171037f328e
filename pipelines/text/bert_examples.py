"""BERT's pre-training examples: pairs of text segments, 15 % of their tokens masked.

The recipe is that of BERT (Devlin et al., 2019, section 3.1 and appendix A.2), the field names and
the label (1 = the second segment is random) those of Google's `create_pretraining_data.py`. Four
choices are ours. The shorter length is drawn for each pair, not once for each document. It is
drawn first whether the second segment is random, and a pair that is not takes at least two
sentences, so that as many pairs are random as are not, however long the sentences are. A random
second segment always comes from another document. And that other document is one of the same unit,
the documents that are in memory together.

A unit's examples depend on its documents, the settings and random numbers keyed by (seed, unit,
pass over it), so units can be worked on in any order and place.
"""

import dataclasses
import os
from collections.abc import Iterator

import numpy as np

from pipelines.command_line import UserError
from pipelines.shards import tfrecords
from pipelines.shards.shard_manifest import TEXT_EXAMPLES
from pipelines.text.masking import MASKED_RATIO, Masking
from pipelines.text.pairs import SPECIALS_PER_EXAMPLE, Layout, Pairs, make_pairs
from pipelines.text.tokenization import TokenizedDocuments, Tokenizer

SHORT_SEQUENCE_PROBABILITY = 0.1
MIN_LENGTH = SPECIALS_PER_EXAMPLE + 2

_EXAMPLES_PER_CALL = 256  # a few MiB of arrays; part of the format, as masks are drawn by call
_PAIRS, _ORDER_AND_MASKS = 0, 1  # keys of random numbers


@dataclasses.dataclass(frozen=True)
class ExampleSettings:
    """What decides about examples besides documents and vocabulary.

    Attributes:
        max_length: int, tokens of an example with its three special ones; shorter pairs are
            padded with zeros.
        max_predictions: int, masked tokens at most.
        seed: int, 0 or more.
        duplication: int, passes over the documents, each with other pairs and masks.
        masked_ratio: float, the part of the tokens that is to be predicted.
        short_sequence_probability: float, how often a pair aims at a random shorter length.
        whole_word: bool, whether the pieces of a word are masked together.
        dynamic: bool, whether masks are left to the reader.
    """

    max_length: int
    max_predictions: int
    seed: int
    duplication: int = 1
    masked_ratio: float = MASKED_RATIO
    short_sequence_probability: float = SHORT_SEQUENCE_PROBABILITY
    whole_word: bool = False
    dynamic: bool = False


class ExampleMaker:
    """Makes the examples of a unit of documents.

    Args:
        settings: `ExampleSettings`.
        vocabulary: sequence of str.

    Raises:
        UserError: the length holds no pair.
    """

    def __init__(self, settings, vocabulary):
        if settings.max_length < MIN_LENGTH:
            raise UserError(
                f"a length of {settings.max_length} holds no two segments; give {MIN_LENGTH} or"
                " more"
            )
        vocabulary = list(vocabulary)
        self._settings = settings
        self._layout = Layout(vocabulary, settings.max_length)
        self._masking = Masking(
            vocabulary, settings.max_predictions, settings.masked_ratio, settings.whole_word
        )

    def __call__(self, documents, unit=0, shuffle=False) -> Iterator[dict]:
        """Yields the fields of some hundred examples at a time.

        Args:
            documents: `TokenizedDocuments`.
            unit: int, the place of these documents among all units: the key of what is random.
            shuffle: bool; otherwise pass after pass and document after document.

        Returns:
            Iterator of dicts of arrays `(count, values)`, int32 and float32, see `build_examples`.
        """
        settings = self._settings
        if not len(documents):
            return
        pairs = Pairs.join(
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
        for start in range(0, len(pairs), _EXAMPLES_PER_CALL):
            chosen = pairs[start : start + _EXAMPLES_PER_CALL]
            fields, candidates = self._layout(documents.tokens, chosen)
            if not settings.dynamic:
                fields |= self._masking(fields["input_ids"], candidates, random)
            yield fields


def one_by_one(batches):
    """Splits dicts of arrays `(count, values)` into dicts of arrays `(values,)`."""
    for fields in batches:
        for row in zip(*fields.values(), strict=True):
            yield dict(zip(fields, row, strict=True))


def tokenize_documents(documents, vocabulary, lower_case=True) -> TokenizedDocuments:
    """Splits documents into sentences and sentences into tokens, see `tokenization.Tokenizer`."""
    return Tokenizer(list(vocabulary), lower_case)(documents)


def build_examples(documents, *, vocabulary, **settings) -> Iterator[dict]:
    """Makes BERT's pre-training examples of documents that are in memory, in their order.

    Args:
        documents: `TokenizedDocuments`, or a list of documents, each a list of sentences, each a
            list of int token ids.
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
    if not isinstance(documents, TokenizedDocuments):
        documents = TokenizedDocuments.from_lists(documents)
    if len(documents) < 2:
        raise too_few_documents(len(documents))
    return one_by_one(ExampleMaker(ExampleSettings(**settings), vocabulary)(documents))


def write_text_examples(examples, prefix, shards, shuffle_seed=None, **manifest):
    """Writes examples to TFRecord files `PREFIX-00000-of-00004` and its fellows.

    Args:
        examples: iterable of dicts of NumPy arrays.
        prefix: str, local or `gs://`.
        shards: int, how many files.
        shuffle_seed: int, shuffles all examples first, in memory. Neighbours come from one
            document otherwise, and a reader needs a large buffer to tell them apart.
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


def too_few_documents(count):
    """The error of a corpus without random next sentences."""
    return UserError(
        f"{count} documents with text: a random next sentence comes from another document; give"
        " two or more"
    )
