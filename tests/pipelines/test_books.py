import json
import os
import pickle
import random
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import books, command_line
from pipelines.prepare import books as prepared
from pipelines.prepare.books import BooksJob, decode, divide, find_books
from pipelines.text.documents import from_json
from tests.said import without_status

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


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=30),
    st.integers(1, 8),
    st.randoms(use_true_random=False),
)
def test_shards_are_balanced_and_whole(sizes, shards, order):
    volumes = {f"{n:03d}": size for n, size in enumerate(sizes)}
    listed = list(volumes.items())
    order.shuffle(listed)
    parts = divide(listed, shards)
    assert parts == divide(volumes.items(), shards)
    assert sorted(name for part in parts for name in part) == list(volumes)
    loads = [sum(volumes[name] for name in part) for part in parts]
    assert max(loads) - min(loads) <= max(sizes)


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


def test_a_run_that_is_stopped_goes_on(folder, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(prepared, "_SHARD_BYTES", 1)  # a shard a book at most

    def command(output):
        argv = [f"--folder={folder}", f"--output={output}", "--", "--direct_num_workers=1"]
        return command_line.run(books.main, argv)

    assert command(tmp_path / "whole") == 0
    assert f"{tmp_path}/whole: 3 shards for 3 books" in capfd.readouterr().err
    with monkeypatch.context() as patched:
        read = prepared.read_book
        names = []

        def stopped(path):
            names.append(path)
            if len(names) == 2:
                raise command_line.Stopped()
            return read(path)

        patched.setattr(prepared, "read_book", stopped)
        assert command(tmp_path / "parts") == command_line.EXIT_STOPPED
    assert command(tmp_path / "parts") == 0
    assert "1 of 3 shards already exist" in capfd.readouterr().err
    whole, parts = (sorted(tmp_path.glob(f"{name}-*")) for name in ("whole", "parts"))
    assert [path.read_bytes() for path in parts] == [path.read_bytes() for path in whole]
    assert command(tmp_path / "parts") == 0
    assert "is complete, nothing to do" in capfd.readouterr().err


def test_bad_input(folder, tmp_path, capfd):
    def refused(*flags):
        assert run(folder, tmp_path / "out", *flags) == 2
        out, err = capfd.readouterr()
        [error] = without_status(err)
        assert not out
        return error

    (tmp_path / "empty").mkdir()
    assert "cannot be written to" in refused("--output=/proc/nowhere/books")
    link = tmp_path / "empty" / "b.txt"
    link.symlink_to(tmp_path / "nowhere")
    assert f"{link}: " in refused(f"--folder={tmp_path}/empty")
    with pytest.raises(NotADirectoryError, match="a.txt"):
        find_books(str(folder / "a.txt"))
    (tmp_path / "empty" / "b.txt").unlink()
    with open(os.fsencode(tmp_path) + b"/empty/f\xfcnf.txt", "w"):
        assert r"f\udcfcnf.txt': is not UTF-8" in refused(f"--folder={tmp_path}/empty")


def test_a_link_to_a_folder_around_it_is_not_followed(folder):
    found = find_books(str(folder))
    assert len(found) == 3
    (folder / "more" / "deep" / "up").symlink_to("..")
    assert find_books(str(folder)) == found
