"""Documents as token ids: flat arrays, with the places where sentences and documents begin."""

import dataclasses
import itertools

import numpy as np

from pipelines.text.sentences import split_sentences

_SENTENCES_PER_CALL = 4096


@dataclasses.dataclass(frozen=True)
class TokenizedDocuments:
    """Documents of sentences of tokens. None is empty.

    Attributes:
        tokens: int32 array, the token ids of all sentences, one after the other.
        sentences: int64 array, where each sentence begins in `tokens`, and their end at last.
        documents: int64 array, where each document begins in `sentences`, and their end at last.
    """

    tokens: np.ndarray
    sentences: np.ndarray
    documents: np.ndarray

    def __len__(self):
        return len(self.documents) - 1

    @classmethod
    def from_lists(cls, documents):
        """From a list of documents, each a list of sentences, each a sequence of token ids.

        Sentences and documents without a token are left out.
        """
        documents = [[sentence for sentence in document if len(sentence)] for document in documents]
        sentences = list(itertools.chain.from_iterable(documents))
        return cls(
            np.concatenate([np.asarray(s, np.int32) for s in sentences] or [np.zeros(0, np.int32)]),
            _offsets([len(sentence) for sentence in sentences]),
            _offsets([len(document) for document in documents if document]),
        )

    def to_lists(self):
        """The same as lists of lists of lists of int."""
        borders = itertools.pairwise(self.sentences.tolist())
        sentences = [self.tokens[start:stop].tolist() for start, stop in borders]
        return [sentences[a:b] for a, b in itertools.pairwise(self.documents.tolist())]


class Tokenizer:
    """Splits documents into sentences and those into WordPiece tokens.

    Args:
        vocabulary: list of str.
        lower_case: bool, as the vocabulary was learned: also strips accents.
    """

    def __init__(self, vocabulary, lower_case=True):
        import tensorflow as tf
        import tensorflow_text as tf_text

        self._tokenizer = tf_text.FastBertTokenizer(
            vocabulary, token_out_type=tf.int32, lower_case_nfd_strip_accents=lower_case
        )

    def __call__(self, documents):
        """Tokenizes documents.

        Args:
            documents: iterable of `documents.Document`.

        Returns:
            `TokenizedDocuments`. Sentences and documents without a token are left out.
        """
        sentences = (
            (index, sentence)
            for index, document in enumerate(documents)
            for sentence in sentences_of(document)
        )
        tokens, lengths, homes = [], [], []
        while batch := list(itertools.islice(sentences, _SENTENCES_PER_CALL)):
            ids = self._tokenizer.tokenize([sentence for _, sentence in batch])
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


def sentences_of(document):
    """The sentences of a `documents.Document`, an iterable of str."""
    if document.split:
        return document.paragraphs
    return itertools.chain.from_iterable(map(split_sentences, document.paragraphs))


def _offsets(lengths):
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
