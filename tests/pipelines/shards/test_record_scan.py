import itertools

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.shards import record_scan, shard_files
from pipelines.shards.record_scan import scan
from pipelines.shards.shard_files import RecordFile


def write(path, contents):
    """Writes with TensorFlow's own writer; returns the offsets of the records and of the end."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content in contents:
            writer.write(content)
    return [0, *itertools.accumulate(len(content) + 16 for content in contents)]


def test_headers_tell_what_the_writer_knows(tmp_path, monkeypatch):
    for module in (record_scan, shard_files):
        monkeypatch.setattr(module, "INDEX_BYTES", 1000)
    random = np.random.default_rng(0)
    contents = [random.bytes(int(n)) for n in random.integers(0, 700, 50)]
    with RecordFile(tmp_path / "x") as file:
        for content in contents:
            file.write(content)
    run, damage = scan(str(tmp_path / "x"))
    assert (run.first, run.count, damage) == (0, 50, None) and file.entry["records"] == 50
    assert [list(place) for place in run.index] == file.entry["index"] and len(run.index) > 10
    offsets = write(tmp_path / "y", contents)
    assert all(offsets[number] == offset for number, offset in run.index)


def test_a_file_cut_anywhere_loses_its_end(tmp_path):
    path = tmp_path / "x"
    offsets = write(path, [b"abc", b"defgh"])
    whole = path.read_bytes()
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        complete = int(length >= offsets[1])
        run, damage = scan(str(path))
        assert run.count == complete
        if length in offsets:
            assert damage is None
        else:
            assert (damage.record, damage.records) == (complete, 1)
            assert "cut short" in damage.reason
        assert scan(str(path), 2)[1].records == 2 - complete


def test_what_is_no_tfrecord_file_holds_no_record(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("This is a text, and no TFRecord file at all.\n" * 100)
    run, damage = scan(str(path))
    assert run.count == 0 and damage.record == 0 and "no TFRecord file" in str(damage)


@settings(max_examples=150, deadline=None)
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
    offsets = write(path, [bytes([n]) * size for n, size in enumerate(sizes)])
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
    if is_counted:
        assert damage.records == len(sizes) - hit
    else:  # as many as the mean of the records before suggests
        rest = (offsets[-1] - offsets[hit]) / (offsets[hit] / hit) if hit else 1
        assert damage.records == max(int(rest + 1e-9), 1)


def test_a_part_of_a_run_keeps_the_place_before_it():
    run = record_scan.Run("x", 4, 20, ((4, 0), (10, 600), (17, 1300)))
    part = run.part(12, 20)
    assert (part.first, part.count, part.index) == (12, 8, ((10, 600), (17, 1300)))
    assert run.part(4, 10).index == ((4, 0),)


def test_the_first_record_of_any_part_is_that_of_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setattr(record_scan, "INDEX_BYTES", 300)  # a place every few records
    contents = [bytes([number]) * (7 * number + 1) for number in range(30)]
    with tf.io.TFRecordWriter(str(tmp_path / "x")) as writer:
        for content in contents:
            writer.write(content)
    run, _ = scan(str(tmp_path / "x"))
    assert 2 < len(run.index) < 20
    for begin, content in enumerate(contents):
        assert record_scan.first_record(run.part(begin, 30)) == (content, None)
    offset = run.index[2][1]
    data = bytearray((tmp_path / "x").read_bytes())
    data[offset + 20] ^= 1
    (tmp_path / "x").write_bytes(data)
    reason = record_scan.first_record(run.part(run.index[2][0], 30))[1]
    assert reason == "its content does not match its checksum"
    data = data[: offset + 15]
    (tmp_path / "x").write_bytes(data)
    assert record_scan.first_record(run.part(run.index[2][0], 30)) == (b"", "the file is cut short")
