"""What is prepared: parts that share nothing, and digests that know each file."""

import json
import os
import threading
import time

import pytest

from keras_vitbert.reproduction import prepared
from keras_vitbert.reproduction.held_out_texts import book_of
from keras_vitbert.runs import run_lock
from pipelines.command_line import Stopped
from pipelines.text.documents import find_units, read_unit


def test_a_folder_is_filled_once_and_its_digests_know_each_file(tmp_path):
    calls = []

    def build(folder):
        calls.append(folder)
        for name, content in (("a/x/1.txt", b"one"), ("a/2.txt", b"two"), ("b/3.txt", b"three")):
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    first = prepared.prepared(str(tmp_path / "data"), build)
    assert first.keys() == {"a", "b"} and len(calls) == 1
    assert prepared.prepared(str(tmp_path / "data"), build) == first and len(calls) == 1
    (tmp_path / "data" / "SHA256.json").unlink()
    (tmp_path / "data" / "b" / "train.manifest.json").write_text("which tells of paths")
    assert prepared.prepared(str(tmp_path / "data"), build) == first and len(calls) == 2
    assert prepared._digest(str(tmp_path / "data" / "a")) == first["a"]
    (tmp_path / "data" / "a" / "2.txt").rename(tmp_path / "data" / "a" / "4.txt")
    assert prepared._digest(str(tmp_path / "data" / "a")) != first["a"]


def test_two_processes_fill_a_folder_once(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "_POLL", 0.01)
    calls, entered = [], threading.Barrier(2, timeout=60)

    def build(folder):
        calls.append(folder)
        time.sleep(0.3)  # the other one is at the lock meanwhile
        (tmp_path / "data" / "a").mkdir()

    def fill():
        entered.wait()
        found.append(prepared.prepared(str(tmp_path / "data"), build))

    found = []
    threads = [threading.Thread(target=fill) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1 and found[0] == found[1] and found[0].keys() == {"a"}


def test_a_copy_is_whole_or_not_there(tmp_path, monkeypatch):
    def other_disk(source, target):
        raise OSError(18, "Invalid cross-device link")

    def full(source, target):
        target.write(source.read()[:2])
        raise OSError(28, "No space left on device")

    (tmp_path / "a.jpg").write_bytes(b"image")
    monkeypatch.setattr(prepared.os, "link", other_disk)
    with monkeypatch.context() as context:
        context.setattr(prepared.shutil, "copyfileobj", full)
        with pytest.raises(OSError, match="No space"):
            prepared._link(str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]
    prepared._link(str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg"))
    assert (tmp_path / "b.jpg").read_bytes() == b"image"


@pytest.mark.parametrize(("status", "error"), [(2, ValueError), (75, Stopped)])
def test_a_command_that_fails_is_named(monkeypatch, status, error):
    monkeypatch.setattr(prepared, "called", lambda command: status)
    with pytest.raises(error, match="pipelines.books"):
        prepared._call("pipelines.books", "--folder=x")


def test_images_of_each_class_are_divided(tmp_path, monkeypatch):
    parts = {"pretrain/train": (0, 3), "pretrain/validation": (3, 4), "task/train": (4, 6)}
    monkeypatch.setattr(prepared, "_CIFAR_PARTS", parts)
    for label in ("cat", "dog"):
        (tmp_path / "cifar" / "train" / label).mkdir(parents=True)
        for number in range(6):
            (tmp_path / "cifar" / "train" / label / f"{number}.jpg").write_text(f"{label}{number}")
    (tmp_path / "cifar" / "train" / ".DS_Store").write_text("of a file manager")
    classes = prepared._images_of_classes(str(tmp_path / "cifar"))
    prepared._link_images(classes, str(tmp_path / "out"))
    found = {}
    for part, (begin, end) in parts.items():
        files = sorted((tmp_path / "out" / part).rglob("*.jpg"))
        assert len(files) == 2 * (end - begin)
        found[part] = {file.read_text() for file in files}
    assert len(set.union(*found.values())) == 12  # each in one part
    (tmp_path / "cifar" / "train" / "dog" / "5.jpg").unlink()
    with pytest.raises(ValueError, match="train/dog"):
        prepared._images_of_classes(str(tmp_path / "cifar"))
    with pytest.raises(ValueError, match=str(tmp_path)):
        prepared._images_of_classes(str(tmp_path))


def test_no_image_of_small_is_in_two_parts(tmp_path, monkeypatch):
    linked = []
    monkeypatch.setattr(prepared, "_link", lambda source, target: linked.append((source, target)))
    prepared._link_images({"cat": [f"{n}.jpg" for n in range(5_000)]}, str(tmp_path))
    assert len({source for source, _ in linked}) == len(linked)
    folders = {os.path.dirname(os.path.relpath(target, tmp_path)) for _, target in linked}
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
    unseen = prepared._divide(str(tmp_path))
    titles = {split: [document.title for document in found] for split, found in unseen.items()}
    assert [len(titles["train"]), len(titles["dev"])] == [8, 4]
    for found in unseen.values():
        assert {book_of(document) for document in found} == {"emma", "persuasion"}
    read = {}
    for split in ("train", "validation"):
        units = find_units(str(tmp_path / f"{split}.jsonl"))
        read[split] = [document.title for unit in units for document in read_unit(unit)]
    everything = [*titles["train"], *titles["dev"], *read["train"], *read["validation"]]
    assert sorted(everything) == sorted([*chapters, *(f"Article {n}" for n in range(16))])
    assert len(read["validation"]) == 2 * 2 + 2
