import os

import pytest
import tensorflow as tf

from pipelines.files import check_output_file, write_atomically


@pytest.mark.parametrize("prefix", ["", "ram://files"])
def test_a_file_takes_the_place_of_the_old_one(tmp_path, prefix):
    path = f"{prefix}{tmp_path}/vocab.txt"
    tf.io.gfile.makedirs(os.path.dirname(path))
    for text in ("old\n", "new, über\n", ""):
        write_atomically(path, text)
        with tf.io.gfile.GFile(path) as file:
            assert file.read() == text
    assert tf.io.gfile.listdir(os.path.dirname(path)) == ["vocab.txt"]


def test_a_failure_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "vocab.txt"
    path.write_text("old")

    def failing(*_, **__):
        assert len(list(tmp_path.iterdir())) == 2  # the new one is beside it
        raise KeyboardInterrupt

    monkeypatch.setattr(tf.io.gfile, "rename", failing)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(str(path), "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """In the working folder: a table, a folder of data, links to both, and a run to be made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("table.csv", "data/train.csv", "tables.csv"):
        (tmp_path / name).write_text("text,label\n")
    os.symlink("table.csv", "link.csv")
    os.symlink("data", "linked")
    return ["table.csv", "", None, str(tmp_path / "data"), "small", "gs://bucket/runs/"]


@pytest.mark.parametrize(
    ("output", "culprit"),
    [
        ("link.csv", "table.csv"),
        ("linked/new.csv", "data"),
        ("runs/mine/results.csv", "runs/mine"),
        ("gs://bucket/runs/x.csv", "gs://bucket/runs"),
    ],
)
def test_an_output_that_is_an_input_is_refused(tmp_path, inputs, output, culprit):
    before = sorted(tmp_path.rglob("*"))
    for path in (output, output if "://" in output else str(tmp_path / output)):
        with pytest.raises(ValueError, match=f"^{path}: would overwrite .*{culprit}"):
            check_output_file(path, inputs, "runs/mine")
    assert sorted(tmp_path.rglob("*")) == before


def test_outputs_beside_the_inputs(tmp_path, inputs):
    """A file that is there is replaced; `small` is a name, of which there is no file."""
    for output in ("tables.csv", "runs/mine2/x.csv", "small/x.csv"):
        check_output_file(output, inputs, "runs/mine")
    assert (tmp_path / "runs").is_dir() and not (tmp_path / "runs" / "mine").exists()
