import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.shards import shard_files
from pipelines.shards.records import RecordFiles, scan
from pipelines.shards.shard_files import to_example, write_shards

COUNT = 23


def content(number):
    return b"record %02d " % number * (1 + number % 5)  # of different lengths


def write(folder):
    assert write_shards(map(content, range(COUNT)), str(folder / "train"), 4) == COUNT
    return f"{folder}/train-*"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """23 records in 4 files of different sizes."""
    return RecordFiles.find(write(tmp_path_factory.mktemp("records")))


def values(dataset):
    return [record.numpy() for record in dataset]


def in_files(files):
    return [record.numpy() for file in files for record in tf.data.TFRecordDataset(file)]


def test_in_order_is_file_after_file(files):
    everything = in_files(files.files)
    assert values(files.in_order()) == everything and len(everything) == COUNT == files.count
    for begin, end in ((0, 0), (5, 7), (3, 20), (22, 23)):
        assert values(files.in_order(begin, end)) == everything[begin:end]


def test_the_index_seeks_to_every_record(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_files, "INDEX_BYTES", 100)
    write_shards(map(content, range(COUNT)), str(tmp_path / "x"), 2)
    records = RecordFiles.find(str(tmp_path / "x-*"))
    assert all(len(run.index) > 3 for run in records.runs)
    assert [scan(file)[0].index for file in records.files] == [run.index for run in records.runs]
    everything = in_files(records.files)
    begins = tf.data.Dataset.range(COUNT)
    expected = [record for begin in range(COUNT) for record in everything[begin : begin + 2]]
    assert values(begins.flat_map(lambda begin: records.in_order(begin, begin + 2))) == expected


def test_files_that_differ_from_their_manifest_are_refused_by_name(tmp_path):
    pattern = write(tmp_path)
    second, other = tmp_path / "train-00001-of-00004", tmp_path / "train-00001-of-00005"
    whole = second.read_bytes()

    def refused(message):
        with pytest.raises(ValueError, match=message):
            RecordFiles.find(pattern)

    second.write_bytes(whole + whole)
    refused(rf"{second} has {2 * len(whole)} bytes, its manifest says {len(whole)}")
    second.unlink()
    refused(rf"{second} is missing; .*train.manifest.json lists it")
    assert RecordFiles.find(str(tmp_path / "train-0000[02]*")).count == 12  # as asked for
    for path in (second, other):
        path.write_bytes(whole)
    refused(r"train-00001-of-00005: is not listed in .*train.manifest.json")
    (tmp_path / "train.manifest.json").write_text("{")
    refused(r"train.manifest.json is damaged")


def test_the_rest_of_a_file_is_left_out(tmp_path):
    pattern, path = write(tmp_path), tmp_path / "train-00001-of-00004"
    data = bytearray(path.read_bytes())
    data[62] ^= 1  # the length of the third of the file's six records
    path.write_bytes(data)
    everything = [content(n) for shard in range(4) for n in range(shard, COUNT, 4)]
    records = RecordFiles.find(pattern, skip=True)
    [damage] = records.damaged
    assert (damage.file, damage.record, damage.records) == (records.files[1], 2, 4)
    kept = everything[:8] + everything[12:]
    assert values(records.in_order()) == kept
    assert records.locate(7) == (records.files[1], 1) and records.locate(8)[1] == 0
    begins = tf.data.Dataset.range(len(kept))
    expected = [record for begin in range(len(kept)) for record in kept[begin : begin + 3]]
    assert values(begins.flat_map(lambda begin: records.in_order(begin, begin + 3))) == expected
    (tmp_path / "train.manifest.json").unlink()
    with pytest.raises(ValueError, match="train-00001-of-00004: record 2"):
        RecordFiles.find(pattern)


def test_records_can_be_taken_out(files):
    everything = in_files(files.files)
    reasons = {0: "a", 7: "b", 8: "c", 22: "d"}
    fewer = files.leave_out(reasons)
    kept = [record for n, record in enumerate(everything) if n not in reasons]
    assert values(fewer.in_order()) == kept and fewer.count == 19
    assert values(fewer.in_order(4, 9)) == kept[4:9]
    places = {(d.file, d.record): d.reason for d in fewer.damaged}
    assert places == {files.locate(n): reason for n, reason in reasons.items()}
    again = fewer.leave_out({0: "e"})
    assert values(again.in_order()) == kept[1:] and len(again.damaged) == 5


def test_the_first_example_is_the_first_whole_one(tmp_path):
    example = to_example({"x": 7})
    write_shards([], str(tmp_path / "a"), 1)
    write_shards([b"no such message", example, b"another"], str(tmp_path / "b"), 1)
    found = RecordFiles.find(f"{tmp_path}/[ab]*").first_example()
    assert found == tf.train.Example.FromString(example)


def write_file(path, contents):
    """Writes with TensorFlow's own writer; returns the offsets of the records and of the end."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content in contents:
            writer.write(content)
    return [0, *itertools.accumulate(len(content) + 16 for content in contents)]


def test_a_file_cut_anywhere_loses_its_end(tmp_path):
    path = tmp_path / "x"
    offsets = write_file(path, [b"abc", b"defgh"])
    whole = path.read_bytes()
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        complete = int(length >= offsets[1])
        run, damage = scan(str(path))
        assert run.count == complete and (damage is None) == (length in offsets)
        if damage:
            assert (damage.record, damage.records) == (complete, 1)
            assert "cut short" in damage.reason
        assert scan(str(path), 2)[1].records == 2 - complete


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=12),
    place=st.integers(0),
    change=st.integers(1, 255),
    is_counted=st.booleans(),
)
def test_a_changed_byte_of_a_length_loses_the_rest(
    tmp_path_factory, sizes, place, change, is_counted
):
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    offsets = write_file(path, [bytes([n]) * size for n, size in enumerate(sizes)])
    data = bytearray(path.read_bytes())
    place %= len(data)
    data[place] ^= change
    path.write_bytes(data)
    run, damage = scan(str(path), len(sizes) if is_counted else None)
    hit = int(np.searchsorted(offsets, place, "right")) - 1
    if place - offsets[hit] >= 12:
        assert (run.count, damage) == (len(sizes), None)  # reading notices it
        return
    assert run.count == hit == damage.record
    assert damage.records == (len(sizes) - hit if is_counted else 1)
