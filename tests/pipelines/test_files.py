import os

import pytest
import tensorflow as tf

from pipelines.files import (
    check_output_file,
    json_object,
    make_folder,
    open_binary,
    write_atomically,
)


@pytest.mark.parametrize("prefix", ["", "ram://files"])
def test_a_file_takes_the_place_of_the_old_one(tmp_path, prefix):
    path = f"{prefix}{tmp_path}/vocab.txt"
    tf.io.gfile.makedirs(os.path.dirname(path))
    for text in ("old\n", "new, über\n", ""):
        write_atomically(path, text)
        with tf.io.gfile.GFile(path) as file:
            assert file.read() == text
    assert tf.io.gfile.listdir(os.path.dirname(path)) == ["vocab.txt"]


@pytest.mark.parametrize("error", [tf.errors.ResourceExhaustedError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_alone(tmp_path, monkeypatch, error):
    path = tmp_path / "vocab.txt"
    path.write_text("old")

    def failing(*_, **__):
        assert len(list(tmp_path.iterdir())) == 2  # the new one is beside it
        raise error(None, None, "half way") if error is not KeyboardInterrupt else error

    monkeypatch.setattr(tf.io.gfile, "rename", failing)
    with pytest.raises(error):
        write_atomically(str(path), "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_folders_are_made_and_left_empty(tmp_path):
    folder = tmp_path / "a" / "b"
    for _ in range(2):
        make_folder(str(folder))
        assert list(folder.iterdir()) == []
    (tmp_path / "file").touch()
    for path in ("/proc/nowhere", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=rf"^{path}: cannot be written to"):
            make_folder(str(path))


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """In the working folder: a table, a folder of data, links to both, and a run to be made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("table.csv", "data/train.csv", "tables.csv", "data.csv"):
        (tmp_path / name).write_text("text,label\n")
    os.symlink("table.csv", "link.csv")
    os.symlink("data", "linked")
    return ["table.csv", "", None, str(tmp_path / "data"), "small"]


@pytest.mark.parametrize(
    ("output", "culprit"),
    [
        ("table.csv", "table.csv"),
        ("link.csv", "table.csv"),
        ("data/train.csv", "data"),
        ("linked/new.csv", "data"),
        ("runs/mine/results.csv", "runs/mine"),
        ("gs://bucket/runs/x.csv", "gs://bucket/runs"),
    ],
)
def test_an_output_that_is_an_input_is_refused(tmp_path, inputs, output, culprit):
    inputs.append("gs://bucket/runs/")
    before = sorted(tmp_path.rglob("*"))
    for path in (output, output if "://" in output else str(tmp_path / output)):
        with pytest.raises(ValueError, match=f"^{path}: would overwrite .*{culprit}"):
            check_output_file(path, inputs, "runs/mine")
    assert sorted(tmp_path.rglob("*")) == before


def test_outputs_beside_the_inputs(tmp_path, inputs):
    """A file that is there is replaced; `small` is a name, of which there is no file."""
    for output in ("tables.csv", "data.csv", "runs/mine.csv", "runs/mine2/x.csv", "small/x.csv"):
        check_output_file(output, inputs, "runs/mine")
    assert (tmp_path / "runs").is_dir() and not (tmp_path / "runs" / "mine").exists()


@pytest.mark.parametrize("content", ["{", "[1]", "[" * 100_000, b"\xff\xfe"])
def test_what_is_no_json_object(content):
    assert json_object(b'{"a": [1]}') == json_object('{"a": [1]}') == {"a": [1]}
    with pytest.raises(ValueError, match=r"."):
        json_object(content)


def test_what_may_have_no_end_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ValueError, match=f"{path}: is a pipe or a device"):
            open_binary(str(path))
