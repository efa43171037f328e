import json
import os
import pickle
import random
import textwrap

import pytest

from pipelines import books, command_line
from pipelines.prepare.books import BooksJob, decode, find_books
from pipelines.text.documents import from_json

WORDS = "the rain fell on roofs and fields while nobody said a word about it again".split()


def prose(seed, words=60):
    """A paragraph of one sentence."""
    order = random.Random(seed)
    text = " ".join(order.choice(WORDS) for _ in range(words))
    return text.capitalize() + "."


def wrapped(*paragraphs, width=70):
    return "\n\n".join(textwrap.fill(text, width) for text in paragraphs)


def test_encodings():
    text = "“Café,” she said—déjà vu…"
    for encoding in ("utf-8", "utf-8-sig", "cp1252", "utf-16"):
        assert decode(text.encode(encoding)) == text
    assert decode(b"wet\r\n\x1a") == "wet\r\n"
    for data in (b"a\x00b", b"\x89PNG\r\n\x1a\n\x0b", b"wet\x81"):
        with pytest.raises(ValueError, match="binary|decode"):
            decode(data)


@pytest.fixture
def folder(tmp_path):
    """Four books, one of them binary, in nested folders."""
    for name, number in (("a.txt", 1), ("more/b.TXT", 2), ("more/deep/c.txt", 3)):
        path = tmp_path / "library" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(f"CHAPTER {n}\n\n{wrapped(prose(f'{name} {n}'))}\n\n" for n in range(1, 4))
        path.write_text(text * number)
    (tmp_path / "library" / "notes.md").write_text("not a book")
    return tmp_path / "library"


def run(folder, output, *flags):
    argv = [f"--folder={folder}", f"--output={output}", "--shards=2", *flags]
    return command_line.run(books.main, [*argv, "--", "--direct_num_workers=1"])


def test_command(folder, tmp_path):
    assert run(folder, tmp_path / "out" / "books") == 0
    manifest = json.loads((tmp_path / "out" / "books.manifest.json").read_text())
    assert manifest["kind"] == "documents" and manifest["counts"]["books"] == 3
    documents = [
        from_json(line)
        for shard in range(2)
        for line in (tmp_path / "out" / f"books-0000{shard}-of-00002").read_bytes().splitlines()
    ]
    assert len(documents) == manifest["counts"]["documents"] == 3 + 6 + 9
    assert [document.title for document in documents[:3]] == [f"c: CHAPTER {n}" for n in (1, 2, 3)]
    words = sum(len(text.split()) for document in documents for text in document.paragraphs)
    assert manifest["counts"]["words"] == words == 60 * 18
    job = BooksJob(str(folder), find_books(str(folder)))
    assert pickle.loads(pickle.dumps(job)) == job
    (folder / "a.txt").write_text("changed")
    assert BooksJob(str(folder), find_books(str(folder))).settings() != job.settings()


def test_binary_files_are_named_or_left_out(folder, tmp_path, capfd):
    (folder / "image.txt").write_bytes(b"\x89PNG\x00\x01" * 99)
    assert run(folder, tmp_path / "books") == 2
    assert "image.txt" in capfd.readouterr().err
    assert run(folder, tmp_path / "books", "--skip_damaged=1") == 0
    manifest = json.loads((tmp_path / "books.manifest.json").read_text())
    assert [record["file"] for record in manifest["damaged"]] == [str(folder / "image.txt")]
    assert manifest["counts"]["books"] == 3


def test_a_name_that_is_not_utf8_is_refused(folder, tmp_path, capfd):
    with open(os.fsencode(folder) + b"/f\xfcnf.txt", "w"):
        assert run(folder, tmp_path / "out") == 2
    assert r"f\udcfcnf.txt': is not UTF-8" in capfd.readouterr().err
