"""Tokenized documents from nested lists of token ids, and back."""

import itertools

import numpy as np

from pipelines.text.tokenization import TokenizedDocuments


def tokenized(documents):
    """A list of documents, each a list of sentences, each a list of ids; without what is empty."""
    documents = [[sentence for sentence in document if len(sentence)] for document in documents]
    documents = [document for document in documents if document]
    sentences = list(itertools.chain(*documents))
    tokens = list(itertools.chain(*sentences))
    lengths = (map(len, sentences), map(len, documents))
    borders = (np.array([0, *itertools.accumulate(part)], np.int64) for part in lengths)
    return TokenizedDocuments(np.array(tokens, np.int32), *borders)


def as_lists(documents):
    """The same as lists of lists of lists of int."""
    borders = itertools.pairwise(documents.sentences.tolist())
    sentences = [documents.tokens[start:stop].tolist() for start, stop in borders]
    return [sentences[a:b] for a, b in itertools.pairwise(documents.documents.tolist())]
