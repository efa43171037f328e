"""Tasks that are cut from books: what is in them, and that nothing is in both splits."""

import csv

import pytest

from keras_vitbert.reproduction.held_out_texts import passages, write_order, write_source
from pipelines.text.documents import Document


def chapter(book, number, sentences):
    """Sentences of six words that are found nowhere else."""
    return Document(
        f"{book}: CHAPTER {number}",
        tuple(f"The {book} said word{number} and line{n}." for n in range(sentences)),
    )


@pytest.fixture
def documents():
    return {
        "train": [chapter("emma", 1, 31), chapter("persuasion", 1, 17), chapter("emma", 2, 9)],
        "dev": [chapter("emma", 3, 12), chapter("persuasion", 3, 12)],
    }


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_passages_are_whole_sentences_in_order(documents):
    [first, *_] = passages(documents["train"][:1], 20)
    assert all(len(passage.split()) == 24 for passage in first)  # four sentences of six words
    assert len(first) == 31 // 4
    assert " ".join(first).startswith(" ".join(documents["train"][0].paragraphs[:5]))


def test_order(documents, tmp_path):
    counts = write_order(tmp_path, documents, 20, seed=0)
    neighbours = {
        split: {pair for cut in passages(found, 20) for pair in zip(cut, cut[1:], strict=False)}
        for split, found in documents.items()
    }
    for split, name in (("train", "train.tsv"), ("dev", "dev.tsv")):
        rows = rows_of(tmp_path / name)
        assert len(rows) == counts[split] == len(neighbours[split])
        exchanged = [row for row in rows if row["label"] == "exchanged"]
        assert abs(2 * len(exchanged) - len(rows)) <= 1
        for row in rows:
            pair = row["sentence1"], row["sentence2"]
            assert (pair[::-1] if row in exchanged else pair) in neighbours[split]
    train, dev = (
        {row[key] for row in rows_of(tmp_path / name) for key in ("sentence1", "sentence2")}
        for name in ("train.tsv", "dev.tsv")
    )
    assert not train & dev
    again = tmp_path / "again"
    write_order(again, documents, 20, seed=0)
    assert (again / "train.tsv").read_bytes() == (tmp_path / "train.tsv").read_bytes()


def test_source(documents, tmp_path):
    counts = write_source(tmp_path, documents, 20, seed=0)
    for split in ("train", "dev"):
        rows = rows_of(tmp_path / f"{split}.tsv")
        books = [row["label"] for row in rows]
        assert len(rows) == counts[split]
        assert books.count("emma") == books.count("persuasion") > 0
        assert all(f"The {row['label']} said" in row["sentence"] for row in rows)
