import hashlib

import numpy as np
import pytest
import tensorflow as tf

from pipelines.shards.shard_files import (
    LineFile,
    RecordFile,
    matching,
    shard_path,
    shard_prefix,
    to_example,
    write_shards,
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


def test_features_keep_their_values():
    example = tf.train.Example.FromString(
        to_example(
            {
                "ids": np.array([[1, 2], [3, -4]]),
                "weights": np.array([0.5, 1], np.float32),
                "flag": True,
                "number": 7,
                "text": "é",
                "data": b"\xff\x00",
                "nothing": np.zeros(0, np.int64),
            }
        )
    ).features.feature
    assert list(example["ids"].int64_list.value) == [1, 2, 3, -4]
    assert list(example["weights"].float_list.value) == [0.5, 1.0]
    assert list(example["flag"].int64_list.value) == [1]
    assert list(example["number"].int64_list.value) == [7]
    assert list(example["text"].bytes_list.value) == ["é".encode()]
    assert list(example["data"].bytes_list.value) == [b"\xff\x00"]
    assert list(example["nothing"].int64_list.value) == []


def test_the_order_of_the_fields_does_not_change_the_bytes():
    fields = {f"field{number}": number for number in range(20)}
    assert to_example(fields) == to_example(dict(reversed(fields.items())))


def test_other_values_are_refused():
    with pytest.raises(TypeError):
        to_example({"when": np.array(["2016-04-22"], "datetime64")})


def test_shards_take_turns(tmp_path):
    prefix = tmp_path / "new" / "records"
    assert write_shards((b"%d" % n for n in range(8)), str(prefix), 3) == 8
    *files, manifest = sorted(prefix.parent.iterdir())
    assert [path.name for path in files] == [f"records-0000{n}-of-00003" for n in range(3)]
    assert manifest.name == "records.manifest.json"
    contents = [[r.numpy() for r in tf.data.TFRecordDataset(str(path))] for path in files]
    assert contents == [[b"0", b"3", b"6"], [b"1", b"4", b"7"], [b"2", b"5"]]


def test_a_failure_leaves_the_old_files(tmp_path):
    prefix = str(tmp_path / "records")
    write_shards([b"old"], prefix, 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(before) == 2

    def failing():
        yield b"new"
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_shards(failing(), prefix, 1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
