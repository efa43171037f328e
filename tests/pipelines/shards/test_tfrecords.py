import numpy as np
import pytest
import tensorflow as tf

from pipelines.shards.shard_files import to_example, write_shards


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
