"""Text tasks that a small model can profit on, cut from documents that it was not trained on.

`order`: two neighbouring passages, in their order or exchanged (ALBERT's sentence order, arXiv
1909.11942, section 3.1). `source`: from which of several books a passage is. Half of the examples
of `order` are exchanged, and a passage is in two of them; the training and the validation examples
come from different documents.
"""

import csv
import os

import numpy as np

from pipelines.text.tokenization import sentences_of


def book_of(document):
    """The book that a document of `pipelines.books` is a chapter of.

    Args:
        document: `pipelines.text.documents.Document`.

    Returns:
        str, its name.
    """
    return document.title.partition(":")[0]


def passages(documents, words):
    """Cuts documents into passages of whole sentences.

    Args:
        documents: list of `pipelines.text.documents.Document`.
        words: int, how many a passage has at least.

    Returns:
        list, for each document, of list of str: its passages in their order, without the rest.
    """
    found = []
    for document in documents:
        cut, sentences, count = [], [], 0
        for sentence in sentences_of(document):
            sentences.append(sentence)
            count += len(sentence.split())
            if count >= words:
                cut.append(" ".join(sentences))
                sentences, count = [], 0
        found.append(cut)
    return found


def write_order(folder, documents, words, seed):
    """Writes `train.tsv` and `dev.tsv` of the task `order`, and says how many there are.

    Args:
        folder: str, which is made.
        documents: dict of `train` and `dev` to a list of `Document`.
        words: int, of a passage at least.
        seed: int.

    Returns:
        dict of a split to int.
    """
    counts = {}
    for split, found in documents.items():
        pairs = [pair for cut in passages(found, words) for pair in zip(cut, cut[1:], strict=False)]
        random = np.random.default_rng((seed, len(pairs)))
        exchanged = random.permutation(len(pairs)) % 2 == 1
        rows = [
            (*(pair[::-1] if swap else pair), "exchanged" if swap else "in order")
            for pair, swap in zip(pairs, exchanged, strict=True)
        ]
        order = random.permutation(len(rows))
        counts[split] = _write(
            folder, split, ("sentence1", "sentence2", "label"), [rows[place] for place in order]
        )
    return counts


def write_source(folder, documents, words, seed):
    """Writes `train.tsv` and `dev.tsv` of the task `source`; arguments as of `write_order`.

    The source of a document is its book; each has as many examples as the one with the fewest.
    """
    counts = {}
    for split, found in documents.items():
        by_book = {}
        for document, cut in zip(found, passages(found, words), strict=True):
            by_book.setdefault(book_of(document), []).extend(cut)
        fewest = min(map(len, by_book.values()))
        random = np.random.default_rng((seed, fewest))
        rows = []
        for book, cut in sorted(by_book.items()):
            rows += [(cut[place], book) for place in random.permutation(len(cut))[:fewest]]
        order = random.permutation(len(rows))
        counts[split] = _write(folder, split, ("sentence", "label"), [rows[i] for i in order])
    return counts


def _write(folder, split, columns, rows):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, f"{split}.tsv"), "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None)
        writer.writerow(columns)
        writer.writerows(rows)
    return len(rows)
