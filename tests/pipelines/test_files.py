import csv
import io
import os
import subprocess

import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from pipelines import files
from pipelines.command_line import UserError
from pipelines.files import (
    csv_text,
    json_object,
    make_folder,
    markdown_row,
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
        make_folder(str(folder), "output")
        assert list(folder.iterdir()) == []
    (tmp_path / "file").touch()
    for path in ("/proc/nowhere", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=rf"^--output_dir={path}: cannot be written to \(.+\)"):
            make_folder(str(path), "output_dir")


def test_two_commands_may_try_a_folder_at_a_time(tmp_path, monkeypatch):
    def meanwhile(path, content):
        write_atomically(path, content)
        if len(list(tmp_path.iterdir())) == 1:
            make_folder(str(tmp_path), "output")

    monkeypatch.setattr(files, "write_atomically", meanwhile)
    make_folder(str(tmp_path), "output")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", "[" * 100_000, b"\xff\xfe"])
def test_what_is_no_json_object(content):
    assert json_object(b'{"a": [1]}') == json_object('{"a": [1]}') == {"a": [1]}
    with pytest.raises(ValueError, match=r"."):
        json_object(content)


def test_what_may_have_no_end_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(OSError, match="a pipe or a device, which may have no end"):
            open_binary(str(path))


def test_cells_of_a_markdown_table_stay_cells():
    assert (
        markdown_row(["a|b", "<b>x</b>\n& y", 3]) == r"| a\|b | &lt;b&gt;x&lt;/b&gt; &amp; y | 3 |"
    )


CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('\n\r",; ')) | (
    st.integers()
)


@given(st.lists(st.dictionaries(st.sampled_from("abcde"), CELL, min_size=1), min_size=1))
def test_tables_are_read_as_they_were_written(rows):
    text = csv_text(rows)
    reader = csv.DictReader(io.StringIO(text, newline=""))
    columns = [name for row in rows for name in row]
    assert reader.fieldnames == sorted(set(columns), key=columns.index)
    expected = [{name: str(row.get(name, "")) for name in reader.fieldnames} for row in rows]
    # A row of nothing but one empty cell is written as "", which is no blank line.
    assert list(reader) == expected


def test_lines_of_a_table_end_as_elsewhere():
    text = csv_text([{"a": "x\ry", "b": "\r\n"}, {"a": "z" * 131_073}])
    assert text == 'a,b\n"x\ry","\r\n"\n' + "z" * 131_073 + ",\n"
    *_, last = csv.reader(io.StringIO(text, newline=""))
    assert last == ["z" * 131_073, ""]  # one character more than `csv` reads by default


def test_sums_tell_what_has_changed(tmp_path):
    for name in ("a.txt", "deep/b.bin"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    files.check_sums(tmp_path)  # there are none
    files.write_sums(tmp_path)
    done = subprocess.run(["sha256sum", "--check", files.SUMS], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0 and done.stdout.count(b": OK") == 2
    files.check_sums(tmp_path)
    (tmp_path / "README.md").write_text("of a person")
    files.check_sums(tmp_path)
    (tmp_path / "deep" / "b.bin").write_bytes(b"deep/b.bim")
    with pytest.raises(UserError, match="deep/b.bin is not what sha256sums.txt says; write the fo"):
        files.check_sums(tmp_path)
    (tmp_path / "deep" / "b.bin").unlink()
    with pytest.raises(UserError, match="b.bin: cannot be read"):
        files.check_sums(tmp_path)
    (tmp_path / files.SUMS).write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="a file is not what sha256sums.txt says"):
        files.check_sums(tmp_path)
