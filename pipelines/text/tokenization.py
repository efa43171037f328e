"""Documents as token ids: flat arrays, and the places where sentences and documents begin."""

import dataclasses
import functools
import itertools
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from pipelines.text import tf_text
from pipelines.text.documents import Document
from pipelines.text.portable_tokenizer import PortableTokenizer
from pipelines.text.sentences import split_sentences

_SENTENCES_PER_CALL = 4096


@dataclasses.dataclass(frozen=True)
class TokenizedDocuments:
    """Documents of sentences of tokens. None is empty.

    Attributes:
        tokens: int32 array, the token ids of all sentences, one after another.
        sentences: int64 array, where each sentence begins in `tokens`, and the end of the last.
        documents: int64 array, where each document begins in `sentences`, and the end of the last.
    """

    tokens: np.ndarray
    sentences: np.ndarray
    documents: np.ndarray

    def __len__(self):
        return len(self.documents) - 1


@functools.lru_cache(maxsize=4)  # a worker tokenizes many units
def wordpiece_tokenizer(vocabulary: tuple[str, ...], lower_case: bool = True):
    """The WordPiece tokenizer of training, evaluation and serving.

    Args:
        lower_case: as when the vocabulary was learned: also strips accents.

    Returns:
        `tensorflow_text.FastBertTokenizer` with int32 ids or, if that package is not installed, a
        `PortableTokenizer`, which gives the same ids.
    """
    module = tf_text.find()
    if module is None:
        return PortableTokenizer(vocabulary, lower_case)
    with tf.init_scope():  # it may be requested in one graph and then in another
        return module.FastBertTokenizer(
            list(vocabulary), token_out_type=tf.int32, lower_case_nfd_strip_accents=lower_case
        )


def tokenize_documents(
    documents: Iterable[Document], vocabulary: Iterable[str], lower_case: bool = True
) -> TokenizedDocuments:
    """Splits documents into sentences and sentences into WordPiece tokens.

    Sentences and documents without a token are left out.
    """
    tokenizer = wordpiece_tokenizer(tuple(vocabulary), lower_case)
    sentences = (
        (index, sentence)
        for index, document in enumerate(documents)
        for sentence in sentences_of(document)
    )
    tokens, lengths, homes = [], [], []
    while batch := list(itertools.islice(sentences, _SENTENCES_PER_CALL)):
        ids = tokenizer.tokenize([sentence for _, sentence in batch])
        tokens.append(ids.flat_values.numpy())
        lengths.append(np.diff(ids.row_splits.numpy()))
        homes.append(np.array([index for index, _ in batch]))
    lengths, homes = (np.concatenate([*parts, np.zeros(0, int)]) for parts in (lengths, homes))
    kept = lengths > 0
    return TokenizedDocuments(
        np.concatenate([*tokens, np.zeros(0, np.int32)]),
        _offsets(lengths[kept]),
        _offsets(np.unique(homes[kept], return_counts=True)[1]),
    )


def sentences_of(document: Document) -> Iterable[str]:
    """The sentences of a document."""
    if document.split:
        return document.paragraphs
    return itertools.chain.from_iterable(map(split_sentences, document.paragraphs))


def _offsets(lengths):
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
