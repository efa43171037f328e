"""BERT's pre-training examples: pairs of text segments, 15 % of their tokens masked.

The recipe is that of BERT (Devlin et al., 2019, section 3.1 and appendix A.2), the field names and
the label (1 = the second segment is random) those of Google's `create_pretraining_data.py`. Three
choices are ours. The shorter length is drawn for each pair, not once for each document. It is
drawn first whether the second segment is random, and a pair that is not takes at least two
sentences, so that as many pairs are random as are not, however long the sentences are. And a
random second segment always comes from another document.

Each pair depends on nothing but the documents, the settings and its own random numbers, which are
keyed by (seed, pass over the documents, document).
"""

import itertools
import os
from collections.abc import Iterator

import numpy as np

from keras_vitbert.command_line import UserError
from pipelines import tfrecords
from pipelines.masking import Masking
from pipelines.sentences import split_sentences
from pipelines.vocabulary import CLS, SEP

IS_NEXT, IS_RANDOM = 0, 1  # values of `next_sentence_labels`
SPECIALS_PER_EXAMPLE = 3  # [CLS] A [SEP] B [SEP]

_SENTENCES_PER_CALL = 4096


def tokenize_documents(documents, vocabulary, lower_case=True):
    """Splits documents into sentences and sentences into tokens.

    Args:
        documents: iterable of objects with `paragraphs`, a sequence of str.
        vocabulary: list of str.
        lower_case: bool, as the vocabulary was learned.

    Returns:
        List of documents, each a list of sentences, each a list of int token ids. Sentences and
        documents without a token are left out.
    """
    import tensorflow as tf
    import tensorflow_text as tf_text

    tokenizer = tf_text.FastBertTokenizer(
        vocabulary, token_out_type=tf.int64, lower_case_nfd_strip_accents=lower_case
    )
    sentences = (
        (index, sentence)
        for index, document in enumerate(documents)
        for paragraph in document.paragraphs
        for sentence in split_sentences(paragraph)
    )
    tokenized = {}
    while batch := list(itertools.islice(sentences, _SENTENCES_PER_CALL)):
        ids = tokenizer.tokenize([sentence for _, sentence in batch]).to_list()
        for (index, _), sentence in zip(batch, ids, strict=True):
            if sentence:
                tokenized.setdefault(index, []).append(sentence)
    return list(tokenized.values())


def build_examples(
    documents,
    *,
    max_length,
    max_predictions,
    vocabulary,
    seed,
    short_sequence_probability=0.1,
    masked_ratio=0.15,
    duplication=1,
) -> Iterator[dict]:
    """Makes BERT's pre-training examples.

    Args:
        documents: list of documents, each a list of sentences, each a list of int token ids: what
            `tokenize_documents` returns.
        max_length: int, tokens of an example with its three special ones; shorter pairs are
            padded with zeros.
        max_predictions: int, masked tokens at most.
        vocabulary: list of str.
        seed: int.
        short_sequence_probability: float, how often a pair aims at a random shorter length.
        masked_ratio: float, the part of the tokens that is to be predicted.
        duplication: int, passes over the documents, each with other pairs and masks.

    Returns:
        Iterator of dicts of NumPy arrays. Of length `max_length`, int64: `input_ids`,
        `input_mask` (1 for a token, 0 for padding) and `segment_ids` (0 up to the first [SEP],
        1 up to the second). Of length `max_predictions`: `masked_lm_positions` (int64,
        ascending), `masked_lm_ids` (int64, the tokens before masking) and `masked_lm_weights`
        (float32, 1 for a prediction, 0 for padding). Of length 1: `next_sentence_labels` (int64).

    Raises:
        UserError: there are fewer than two documents, or `max_length` holds no pair.
    """
    documents = [[s for s in document if len(s)] for document in documents]
    documents = [document for document in documents if document]
    if len(documents) < 2:
        raise UserError(
            f"{len(documents)} documents with text: a random next sentence comes from another"
            " document; give two or more"
        )
    room = max_length - SPECIALS_PER_EXAMPLE
    if room < 2:
        raise UserError(f"a length of {max_length} holds no two segments; give 5 or more")
    masking = Masking(vocabulary, max_predictions, masked_ratio)
    layout = _Layout(vocabulary, max_length)

    def examples():
        for turn in range(duplication):
            for index in range(len(documents)):
                random = np.random.default_rng((seed, turn, index))
                pairs = _pairs(documents, index, room, short_sequence_probability, random)
                for first, second, label in pairs:
                    first, second = _truncate(first, second, room, random)
                    example = layout(first, second)
                    example |= masking(example["input_ids"], len(first), len(second), random)
                    example["next_sentence_labels"] = np.array([label], np.int64)
                    yield example

    return examples()


def write_text_examples(examples, prefix, shards, shuffle_seed=None):
    """Writes examples to TFRecord files `PREFIX-00000-of-00004` and its fellows.

    Args:
        examples: iterable of dicts of NumPy arrays.
        prefix: str, local or `gs://`.
        shards: int, how many files.
        shuffle_seed: int, shuffles all examples first, in memory. Neighbours come from one
            document otherwise, and a reader needs a large buffer to tell them apart.

    Returns:
        int, how many examples were written.
    """
    serialized = map(tfrecords.to_example, examples)
    if shuffle_seed is not None:
        serialized = list(serialized)
        np.random.default_rng(shuffle_seed).shuffle(serialized)
    return tfrecords.write_shards(serialized, os.fspath(prefix), shards)


def _pairs(documents, index, room, short_probability, random):
    """Yields the pairs (first segment, second segment, label) of one document, over-long as yet.

    Sentences are gathered until they fill the length. Then they are divided between the two
    segments; or the first of them become the first segment, a piece of another document the
    second, and the others are put back to be used again.
    """
    document = documents[index]
    start = 0
    while start < len(document):
        target = room
        if random.random() < short_probability:
            target = int(random.integers(2, room + 1))
        label = IS_RANDOM if random.random() < 0.5 else IS_NEXT

        end, length = start, 0
        while end < len(document) and (length < target or (label == IS_NEXT and end < start + 2)):
            length += len(document[end])
            end += 1
        if end == start + 1:  # the document's last sentence has no next one
            label = IS_RANDOM
        middle = start + (int(random.integers(1, end - start)) if end > start + 1 else 1)

        first = _join(document[start:middle])
        if label == IS_RANDOM:
            second = _random_segment(documents, index, target - len(first), random)
            start = middle
        else:
            second = _join(document[middle:end])
            start = end
        yield first, second, label


def _random_segment(documents, index, length, random):
    """Sentences of a random other document, from a random one on: `length` tokens or more."""
    other = int(random.integers(len(documents) - 1))
    document = documents[other + (other >= index)]
    start = int(random.integers(len(document)))
    tokens = list(document[start])
    for sentence in document[start + 1 :]:
        if len(tokens) >= length:
            break
        tokens.extend(sentence)
    return tokens


def _join(sentences):
    return list(itertools.chain.from_iterable(sentences))


def _truncate(first, second, room, random):
    """Shortens the longer segment, and then both, until they fit.

    Each token is taken from the front or the end at random, so that the segments do not always
    start with a sentence.
    """
    if len(first) + len(second) <= room:
        return first, second
    kept_first = min(len(first), max(room - len(second), (room + 1) // 2))
    kept = []
    for tokens, length in ((first, kept_first), (second, room - kept_first)):
        front = int(random.binomial(len(tokens) - length, 0.5))
        kept.append(tokens[front : front + length])
    return kept


class _Layout:
    """Lays two segments out as `[CLS] A [SEP] B [SEP]`, padded."""

    def __init__(self, vocabulary, max_length):
        self._cls, self._sep = vocabulary.index(CLS), vocabulary.index(SEP)
        self._max_length = max_length

    def __call__(self, first, second):
        tokens = [self._cls, *first, self._sep, *second, self._sep]
        example = {
            name: np.zeros(self._max_length, np.int64)
            for name in ("input_ids", "input_mask", "segment_ids")
        }
        example["input_ids"][: len(tokens)] = tokens
        example["input_mask"][: len(tokens)] = 1
        example["segment_ids"][len(first) + 2 : len(tokens)] = 1
        return example
