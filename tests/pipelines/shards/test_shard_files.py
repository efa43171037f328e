import json

import numpy as np
import pytest
import tensorflow as tf

from pipelines.shards.shard_files import (
    RecordFile,
    matching,
    shard_path,
    shard_prefix,
    to_example,
    write_shards,
)
from pipelines.shards.shard_manifest import read_manifest


def test_our_writer_and_tensorflows_write_the_same_bytes(tmp_path):
    contents = [b"", b"a", bytes(range(256)) * 9000]
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for content in contents:
            writer.write(content)
    with RecordFile(tmp_path / "ours") as file:
        for content in contents:
            file.write(content)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


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
    values = {"ids": np.array([[1, 2], [3, -4]]), "weights": np.array([0.5, 1], np.float32)}
    values |= {"flag": True, "number": 7, "text": "é", "data": b"\xff", "none": np.zeros(0, int)}
    found = tf.train.Example.FromString(to_example(values)).features.feature
    assert list(found["weights"].float_list.value) == [0.5, 1.0]
    for name, expected in {"ids": [1, 2, 3, -4], "flag": [1], "number": [7], "none": []}.items():
        assert list(found[name].int64_list.value) == expected
    for name, expected in {"text": "é".encode(), "data": b"\xff"}.items():
        assert list(found[name].bytes_list.value) == [expected]


def test_a_failure_leaves_the_old_files(tmp_path):
    prefix = str(tmp_path / "records")
    write_shards([b"old"], prefix, 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def failing():
        yield b"new"
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_shards(failing(), prefix, 1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("change", [lambda found: {**found, "version": 2}, lambda found: [found]])
def test_manifests_of_other_programs_are_refused(tmp_path, change):
    write_shards([b"a", b"b", b"c"], str(tmp_path / "x"), 2)
    path = tmp_path / "x.manifest.json"
    found = json.loads(path.read_text())
    assert [entry["records"] for entry in found["shards"]] == [2, 1]
    path.write_text(json.dumps(change(found)))
    with pytest.raises(ValueError, match=f"^{path} "):
        read_manifest(tmp_path / "x")
