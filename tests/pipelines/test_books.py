import json
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import time

import pytest

from pipelines import books, command_line
from pipelines.prepare.books import BooksJob, decode, find_books
from pipelines.text.documents import from_json
from tests.pipelines.prepare.counting_job import content

PARAGRAPH = "It rained on roofs and fields and nobody said a word about it.\n" * 5


def test_encodings():
    text = "“Café,” she said—déjà vu…"
    for encoding in ("utf-8", "utf-8-sig", "cp1252", "utf-16"):
        assert decode(text.encode(encoding)) == text
    for data in (b"a\x00b", b"\x89PNG\r\n\x1a\n\x0b", b"wet\x81"):
        with pytest.raises(ValueError, match="binary|decode"):
            decode(data)


@pytest.fixture
def folder(tmp_path):
    """Three books of one, two and three chapters, in nested folders."""
    for number, name in enumerate(("a.txt", "more/b.TXT", "more/deep/c.txt"), 1):
        path = tmp_path / "library" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"CHAPTER {n}\n\n{PARAGRAPH}\n" for n in range(1, number + 1)))
    (tmp_path / "library" / "notes.md").write_text("not a book")
    return tmp_path / "library"


def run(folder, output, *flags):
    argv = [f"--folder={folder}", f"--output={output}", "--shards=2", *flags]
    return command_line.run(books.main, [*argv, "--", "--direct_num_workers=1"])


def test_chapters_are_documents_and_binary_files_are_named_or_left_out(folder, tmp_path, capfd):
    (folder / "image.txt").write_bytes(b"\x89PNG\x00\x01" * 99)
    assert run(folder, tmp_path / "books") == 2
    assert "image.txt" in capfd.readouterr().err
    assert run(folder, tmp_path / "books", "--skip_damaged=1") == 0
    manifest = json.loads((tmp_path / "books.manifest.json").read_text())
    assert [record["file"] for record in manifest["damaged"]] == [str(folder / "image.txt")]
    lines = [
        line
        for shard in range(2)
        for line in (tmp_path / f"books-0000{shard}-of-00002").read_bytes().splitlines()
    ]
    titles = [from_json(line).title for line in lines]
    expected = [
        f"{book}: CHAPTER {n}"
        for book, last in zip("abc", (1, 2, 3), strict=True)
        for n in range(1, last + 1)
    ]
    assert sorted(titles) == expected
    counts = {"books": 3, "documents": 6, "words": 6 * 65, "records": 6}
    assert manifest["kind"] == "documents" and counts.items() <= manifest["counts"].items()


def test_a_changed_book_is_another_job(folder):
    job = BooksJob(str(folder), find_books(str(folder)))
    assert pickle.loads(pickle.dumps(job)) == job
    (folder / "a.txt").write_text("changed")
    assert BooksJob(str(folder), find_books(str(folder))).settings() != job.settings()


def test_a_name_that_is_not_utf8_is_refused(folder, tmp_path, capfd):
    with open(os.fsencode(folder) + b"/f\xfcnf.txt", "w"):
        assert run(folder, tmp_path / "out") == 2
    assert r"f\udcfcnf.txt': is not UTF-8" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 75)])
def test_a_command_that_is_ended_goes_on_where_it_was(tmp_path, sent, status):
    for number in range(16):
        (tmp_path / f"{number}.txt").write_text(f"CHAPTER {number}\n\n{PARAGRAPH}\n" * 100)
    argv = [f"--folder={tmp_path}", f"--output={tmp_path}/out/x", "--shards=16"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.books", *argv, "--", "--direct_num_workers=2"],
        cwd=pathlib.Path(books.__file__).parents[1],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    progress, deadline = tmp_path / "out" / "x.progress", time.monotonic() + 100
    while not list(progress.glob("*.json")):  # of the shards that are complete
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, sent)  # its workers, too
    assert process.wait(100) == status
    made = content(tmp_path / "out" / "x")
    assert not (tmp_path / "out" / "x.manifest.json").exists()
    assert len(list(progress.glob("*.json"))) < 16
    for folder in ("out", "whole"):
        assert run(tmp_path, tmp_path / folder / "x", "--shards=16") == 0
    whole = content(tmp_path / "whole" / "x")
    assert content(tmp_path / "out" / "x") == whole
    if sent == signal.SIGINT:  # it ended by itself, and nothing is half-written
        assert 0 < len(made) < 16 and made.items() <= whole.items()
    manifests = [(tmp_path / f / "x.manifest.json").read_text() for f in ("out", "whole")]
    assert manifests[0] == manifests[1]
