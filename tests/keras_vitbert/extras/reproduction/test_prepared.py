"""What is prepared: parts that share nothing, and digests that know each file."""

import csv
import json
import os
import pathlib

import pytest

from keras_vitbert.extras.reproduction import prepared
from keras_vitbert.extras.reproduction.prepared import (
    book_of,
    digest_of,
    passages,
    write_next,
    write_source,
)
from pipelines.text.documents import Document, find_units, read_unit


def test_a_folder_is_filled_once_and_its_digests_know_each_file(tmp_path):
    calls, data = [], tmp_path / "data"

    def build(folder):
        calls.append(folder)
        for name in ("a/x/1.txt", "a/2.txt", "b/3.txt"):
            path = pathlib.Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        if len(calls) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepared.prepared(str(data), build)
    assert not list(tmp_path.iterdir())
    first = prepared.prepared(str(data), build)
    assert first.keys() == {"a", "b"} and len(calls) == 2
    assert prepared.prepared(str(data), build) == first and len(calls) == 2
    (data / "b" / "train.manifest.json").write_text("which tells of paths")
    assert digest_of(str(data / "b")) == first["b"]
    (data / "a" / "2.txt").rename(data / "a" / "4.txt")
    assert digest_of(str(data / "a")) != first["a"]


def test_no_image_of_small_is_in_two_parts(tmp_path, monkeypatch):
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "train" / ".DS_Store").write_text("of a file manager")
    pairs = []
    monkeypatch.setattr(prepared.os, "listdir", lambda _: [f"{n:04}.jpg" for n in range(5_000)])
    monkeypatch.setattr(prepared.shutil, "copyfile", lambda *pair: pairs.append(pair))
    prepared.divide_images(str(tmp_path), str(tmp_path / "out"))
    assert len({source for source, _ in pairs}) == len(pairs) == 5_000
    folders = {os.path.relpath(os.path.dirname(target), tmp_path / "out") for _, target in pairs}
    splits = ("train", "validation")
    assert folders == {f"{use}/{split}/cat" for use in ("pretrain", "task") for split in splits}


def test_documents_are_divided_and_books_alone_make_tasks(tmp_path):
    def write(kind, titles):
        folder = tmp_path / "all"
        folder.mkdir(exist_ok=True)
        lines = [json.dumps({"title": t, "paragraphs": [f"About {t}."]}) for t in titles]
        (folder / f"{kind}-00000-of-00001").write_text("\n".join(lines) + "\n")

    chapters = [f"{book}: CHAPTER {n}" for book in ("emma", "persuasion") for n in range(16)]
    write("books", chapters)
    write("wiki", [f"Article {n}" for n in range(16)])
    unseen = prepared.divide_documents(str(tmp_path))
    titles = {split: [document.title for document in own] for split, own in unseen.items()}
    assert [len(titles["train"]), len(titles["dev"])] == [8, 4]
    for own in unseen.values():
        assert {book_of(document) for document in own} == {"emma", "persuasion"}
    read = {}
    for split in ("train", "validation"):
        units = find_units(str(tmp_path / f"{split}.jsonl"))
        read[split] = [document.title for unit in units for document in read_unit(unit)]
    everything = [*titles["train"], *titles["dev"], *read["train"], *read["validation"]]
    assert sorted(everything) == sorted([*chapters, *(f"Article {n}" for n in range(16))])
    assert len(read["validation"]) == 2 * 2 + 2


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


def test_next(documents, tmp_path):
    write_next(tmp_path, documents, 20, seed=0)
    for split, name in (("train", "train.tsv"), ("dev", "dev.tsv")):
        cuts = [passages(document, 20) for document in documents[split]]
        home = {text: place for place, cut in enumerate(cuts) for text in cut}
        following = dict(pair for cut in cuts for pair in zip(cut, cut[1:], strict=False))
        rows = rows_of(tmp_path / name)
        # Each passage with one behind it is an example.
        assert sorted(row["sentence1"] for row in rows) == sorted(following)
        others = [row for row in rows if row["label"] == "other"]
        assert abs(2 * len(others) - len(rows)) <= 1
        for row in rows:
            if row in others:
                assert home[row["sentence1"]] != home[row["sentence2"]]
            else:
                assert row["label"] == "next" and following[row["sentence1"]] == row["sentence2"]
    again = tmp_path / "again"
    write_next(again, documents, 20, seed=0)
    assert (again / "train.tsv").read_bytes() == (tmp_path / "train.tsv").read_bytes()


def test_source(documents, tmp_path):
    write_source(tmp_path, documents, 20, seed=0)
    for split in ("train", "dev"):
        rows = rows_of(tmp_path / f"{split}.tsv")
        books = [row["label"] for row in rows]
        assert books.count("emma") == books.count("persuasion") > 0
        assert all(f"The {row['label']} said" in row["sentence"] for row in rows)
