"""Tokenized documents from nested lists of token ids, and back; examples one by one."""

import itertools

import numpy as np

from pipelines.text.bert_examples import ExampleSettings, make_examples
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


def build_examples(documents, *, vocabulary, **settings):
    """The rows of `make_examples`, one by one, with `settings` of `ExampleSettings`."""
    for fields in make_examples(documents, list(vocabulary), ExampleSettings(**settings)):
        for row in zip(*fields.values(), strict=True):
            yield dict(zip(fields, row, strict=True))
