"""Text tasks within reach of a small model, cut from documents that it was not trained on.

`next`: whether a passage follows another, as in BERT's next-sentence prediction, or is from another
document. `source`: which of several books a passage is from. Training and validation examples come
from different documents.
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
        words: int, the fewest words of a passage.

    Returns:
        list of list of str: for each document its passages in order, without the remainder.
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


def write_next(folder, documents, words, seed):
    """Writes `train.tsv` and `dev.tsv` of the task `next`, and returns how many examples there are.

    Every two neighbouring passages are an example; in half of them, the second one is replaced by a
    random passage of another document.

    Args:
        folder: str; it is created.
        documents: dict of `train` and `dev` to a list of `Document`.
        words: int, the fewest words of a passage.
        seed: int.

    Returns:
        dict of a split to int.

    Raises:
        ValueError: fewer than two documents of a split have passages.
    """
    counts = {}
    for split, found in documents.items():
        cuts = [cut for cut in passages(found, words) if cut]
        if len(cuts) < 2:
            raise ValueError(
                f"{len(cuts)} chapters have {words} words or more for the {split} split of `next`, "
                "2 are needed; give more books, or longer ones"
            )
        homes = np.repeat(np.arange(len(cuts)), [len(cut) for cut in cuts])
        texts = [text for cut in cuts for text in cut]
        firsts = np.flatnonzero(homes[:-1] == homes[1:])
        random = np.random.default_rng((seed, len(firsts)))
        is_other = random.permutation(len(firsts)) % 2 == 1
        rows = []
        for first, other in zip(firsts, is_other, strict=True):
            second = first + 1
            while other and homes[second] == homes[first]:
                second = random.integers(len(texts))
            rows.append((texts[first], texts[second], "other" if other else "next"))
        order = random.permutation(len(rows))
        counts[split] = _write(
            folder, split, ("sentence1", "sentence2", "label"), [rows[place] for place in order]
        )
    return counts


def write_source(folder, documents, words, seed):
    """Writes `train.tsv` and `dev.tsv` of the task `source`; for arguments see `write_next`.

    The source of a document is its book; each book gets as many examples as the one with the
    fewest.

    Raises:
        ValueError: a book has no passage in a split.
    """
    counts = {}
    books = {book_of(document) for found in documents.values() for document in found}
    for split, found in documents.items():
        by_book = {book: [] for book in sorted(books)}
        for document, cut in zip(found, passages(found, words), strict=True):
            by_book[book_of(document)].extend(cut)
        for book, cut in by_book.items():
            if not cut:
                raise ValueError(
                    f"the book {book!r} has no chapter of {words} words for the {split} split of "
                    "`source`; leave it out, or give a longer one"
                )
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
