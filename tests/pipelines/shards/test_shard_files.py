import hashlib

import pytest
import tensorflow as tf

from pipelines.shards.shard_files import (
    LineFile,
    RecordFile,
    matching,
    shard_path,
    shard_prefix,
)


def test_our_writer_and_tensorflows_write_the_same_bytes(tmp_path):
    contents = [b"", b"a", bytes(range(256)) * 9000]
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for content in contents:
            writer.write(content)
    with RecordFile(tmp_path / "ours") as file:
        for content in contents:
            file.write(content)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_a_file_is_described_as_it_is(tmp_path):
    lines = [b"one", b"", b"three"]
    with LineFile(tmp_path / "x") as file:
        assert not (tmp_path / "x").exists()  # it has no name yet
        for line in lines:
            file.write(line)
    data = (tmp_path / "x").read_bytes()
    assert data == b"one\n\nthree\n"
    assert file.entry == {
        "name": "x",
        "records": 3,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "index": [[0, 0]],
    }


def test_an_error_leaves_the_file_that_was_there(tmp_path):
    (tmp_path / "x").write_text("old")
    with pytest.raises(RuntimeError), RecordFile(tmp_path / "x") as file:
        file.write(b"new" * 1_000_000)
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "old"


def test_names():
    assert shard_path("gs://a/b", 3, 16) == "gs://a/b-00003-of-00016"
    for prefix, shard, shards in (("a-00001-of-00002", 0, 1), ("x", 123_456, 200_000), ("-", 7, 8)):
        assert shard_prefix(shard_path(prefix, shard, shards)) == prefix
    for other in ("a", "a-0001-of-0002", "a-00001-of-00002.tmp-0f", "-00001-of-00002"):
        assert shard_prefix(other) == other


def test_files_that_are_no_data_do_not_match(tmp_path):
    for name in ("x-2", "x-1", "x.manifest.json", "x-3.tmp-0123", "y-1"):
        (tmp_path / name).touch()
    assert matching(f"{tmp_path}/x*") == [f"{tmp_path}/x-1", f"{tmp_path}/x-2"]
    for pattern in ("none/*", "x.manifest*"):
        with pytest.raises(ValueError, match="no file matches"):
            matching(f"{tmp_path}/{pattern}")
