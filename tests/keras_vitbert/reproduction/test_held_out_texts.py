"""Tasks that are cut from books: what is in them, and that nothing is in both splits."""

import csv

import pytest

from keras_vitbert.reproduction.held_out_texts import passages, write_next, write_source
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


def test_next(documents, tmp_path):
    counts = write_next(tmp_path, documents, 20, seed=0)
    for split, name in (("train", "train.tsv"), ("dev", "dev.tsv")):
        cuts = passages(documents[split], 20)
        home = {text: place for place, cut in enumerate(cuts) for text in cut}
        following = dict(pair for cut in cuts for pair in zip(cut, cut[1:], strict=False))
        rows = rows_of(tmp_path / name)
        # Each passage with one behind it is an example.
        assert sorted(row["sentence1"] for row in rows) == sorted(following)
        assert len(rows) == counts[split]
        others = [row for row in rows if row["label"] == "other"]
        assert abs(2 * len(others) - len(rows)) <= 1
        for row in rows:
            if row in others:
                assert home[row["sentence1"]] != home[row["sentence2"]]
            else:
                assert row["label"] == "next" and following[row["sentence1"]] == row["sentence2"]
    train, dev = (
        {row[key] for row in rows_of(tmp_path / name) for key in ("sentence1", "sentence2")}
        for name in ("train.tsv", "dev.tsv")
    )
    assert not train & dev
    again = tmp_path / "again"
    write_next(again, documents, 20, seed=0)
    assert (again / "train.tsv").read_bytes() == (tmp_path / "train.tsv").read_bytes()


def test_too_few_chapters(documents, tmp_path):
    few = documents | {"dev": [documents["dev"][0], chapter("emma", 4, 2)]}
    with pytest.raises(ValueError, match="dev"):
        write_next(tmp_path, few, 20, seed=0)
    with pytest.raises(ValueError, match="'persuasion'"):
        write_source(tmp_path, few, 20, seed=0)


def test_source(documents, tmp_path):
    counts = write_source(tmp_path, documents, 20, seed=0)
    for split in ("train", "dev"):
        rows = rows_of(tmp_path / f"{split}.tsv")
        books = [row["label"] for row in rows]
        assert len(rows) == counts[split]
        assert books.count("emma") == books.count("persuasion") > 0
        assert all(f"The {row['label']} said" in row["sentence"] for row in rows)
