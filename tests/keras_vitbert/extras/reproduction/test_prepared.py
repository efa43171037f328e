"""What is prepared: parts that share nothing, and digests that know each file."""

import csv
import json
import os
import pathlib

import numpy as np
import pytest

from keras_vitbert.extras.reproduction import prepared
from keras_vitbert.extras.reproduction.prepared import (
    book_of,
    digest_of,
    passages,
    write_next,
    write_swapped,
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


def test_no_image_is_in_two_parts(tmp_path, monkeypatch):
    """The classes of pre-training and of the task are others, and 500 of each are in neither."""
    for name in "airplane automobile bird cat deer dog frog horse ship truck".split():
        (tmp_path / "train" / name).mkdir(parents=True)
    pairs, out = [], tmp_path / "out"
    monkeypatch.setattr(prepared.os, "listdir", lambda _: [f"{n:04}.jpg" for n in range(5_000)])
    monkeypatch.setattr(prepared.shutil, "copyfile", lambda *pair: pairs.append(pair))
    prepared.divide_images(str(tmp_path), str(out))
    assert len({source for source, _ in pairs}) == len(pairs) == 5 * 4_500 + 5 * 1_600
    assert not any(os.path.basename(source) >= "4500" for source, _ in pairs)
    pretrained, tasks = (
        {path.name for path in out.glob(f"{use}/train/*")} for use in ("pretrain", "task")
    )
    assert len(pretrained) == len(tasks) == 5 and not pretrained & tasks
    labels = [target.split("/")[-2] for _, target in pairs if "/task/train/" in target]
    assert {*map(labels.count, labels)} == {200}


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
    titles = {split: {document.title for document in own} for split, own in unseen.items()}
    assert [len(titles[split]) for split in ("train", "validation", "test")] == [4, 4, 8]
    for own in unseen.values():
        assert {book_of(document) for document in own} == {"emma", "persuasion"}
    read = {}
    for split in ("train", "validation"):
        units = find_units(str(tmp_path / f"{split}.jsonl"))
        read[split] = [document.title for unit in units for document in read_unit(unit)]
    # No model has trained on what picks a rate or is reported, and what picks is not reported.
    parts = [titles["train"], titles["test"], {*read["train"]}, {*read["validation"]}]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 32 + 16
    assert titles["validation"] == {title for title in read["validation"] if "CHAPTER" in title}
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
        "train": [chapter(book, n, 31 - n) for n in (1, 9, 20) for book in ("emma", "persuasion")],
        "dev": [chapter("emma", 3, 12), chapter("emma", 4, 12)],
    }


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_next(documents, tmp_path):
    write_next(tmp_path, documents, {}, words=20)
    for split, name in (("train", "train.tsv"), ("dev", "dev.tsv")):
        cuts = [passages(document, 20) for document in documents[split]]
        home = {text: doc for doc, cut in zip(documents[split], cuts, strict=True) for text in cut}
        following = dict(pair for cut in cuts for pair in zip(cut, cut[1:], strict=False))
        rows = rows_of(tmp_path / name)
        firsts = {}
        for row in rows:
            first, second = row["sentence1"], row["sentence2"]
            firsts.setdefault(first, []).append(row["label"])
            if row["label"] == "next":
                assert following[first] == second
            else:
                assert home[first] is not home[second]
                assert book_of(home[first]) == book_of(home[second])
        # Each passage with one behind it, with both labels.
        assert firsts.keys() == following.keys()
        assert all(sorted(labels) == ["next", "other"] for labels in firsts.values())
    again = tmp_path / "again"
    write_next(again, documents, {}, words=20)
    assert (again / "train.tsv").read_bytes() == (tmp_path / "train.tsv").read_bytes()
    with pytest.raises(ValueError, match="train"):
        write_next(again, documents, {"train": 1_000}, words=20)


def test_swapped(tmp_path):
    """Three pairs of plain neighbours have changed places; fewer examples are some of more."""
    letters = [np.random.default_rng(n).permutation([*"abcdefghij"]) for n in range(60)]
    texts = [f'"Mr. Oh, {" ".join(some)}, {n} I said so."' for n, some in enumerate(letters)]
    document, rows = Document("emma: CHAPTER 1", (*texts, "It is too short for that.")), {}
    for count in (80, 20):
        write_swapped(tmp_path / f"{count}", {"train": [document]}, {"train": count})
        rows[count] = {tuple(row.values()) for row in rows_of(tmp_path / f"{count}" / "train.tsv")}
        assert len(rows[count]) == count
    assert rows[20] <= rows[80]
    originals = {text.split()[-4]: text.split() for text, label in rows[80] if label == "original"}
    for words in (text.split() for text, label in rows[80] if label == "swapped"):
        original = originals.pop(words[-4])
        moved = [n for n, (a, b) in enumerate(zip(original, words, strict=True)) if a != b]
        assert len(moved) == 6 and " ".join(original) in texts
        for n in moved[::2]:
            assert words[n : n + 2] == original[n : n + 2][::-1]
            assert all(word.isalpha() and word.islower() for word in original[n : n + 2])
