import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.shards import record_scan, shard_files
from pipelines.shards.record_scan import salvage, scan
from pipelines.shards.shard_files import RecordFile, masked_crc


def write(path, contents):
    """Writes with TensorFlow's own writer; returns the offsets of the records and of the end."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content in contents:
            writer.write(content)
    return [0, *itertools.accumulate(len(content) + 16 for content in contents)]


def places(runs):
    """The numbers of the records in runs."""
    return [number for run in runs for number in range(run.first, run.first + run.count)]


def test_headers_tell_what_the_writer_knows(tmp_path, monkeypatch):
    for module in (record_scan, shard_files):
        monkeypatch.setattr(module, "INDEX_BYTES", 1000)
    random = np.random.default_rng(0)
    contents = [random.bytes(int(n)) for n in random.integers(0, 700, 50)]
    with RecordFile(tmp_path / "x") as file:
        for content in contents:
            file.write(content)
    run = scan(str(tmp_path / "x"))
    assert (run.first, run.count) == (0, 50) == (0, file.entry["records"])
    assert [list(place) for place in run.index] == file.entry["index"] and len(run.index) > 10
    assert salvage(str(tmp_path / "x")) == ([run], [])
    offsets = write(tmp_path / "y", contents)
    assert all(offsets[number] == offset for number, offset in run.index)


def test_a_file_cut_anywhere_is_told_and_salvaged(tmp_path):
    path = tmp_path / "x"
    offsets = write(path, [b"abc", b"defgh"])
    whole = path.read_bytes()
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        complete = int(length >= offsets[1])
        runs, damages = salvage(str(path))
        assert places(runs) == list(range(complete))
        if length in offsets:
            assert scan(str(path)).count == complete and not damages
        else:
            with pytest.raises(ValueError, match=rf"x: the file is .* \(in record {complete}\)"):
                scan(str(path))
            [damage] = damages
            assert (damage.record, damage.records) == (complete, 1)
            assert "cut short" in damage.reason


def test_the_manifest_tells_how_much_a_cut_has_taken(tmp_path):
    path = tmp_path / "x"
    with RecordFile(path) as file:
        for content in (b"one", b"two", b"three", b"four"):
            file.write(content)
    whole = path.read_bytes()
    for length, kept in ((19, 1), (25, 1), (38, 2)):
        path.write_bytes(whole[:length])
        runs, [damage] = salvage(str(path), file.entry)
        assert places(runs) == list(range(kept))
        assert (damage.record, damage.records) == (kept, 4 - kept)
    assert str(damage) == f"{path}: record 2 to 3: the file is cut short"


def test_what_is_no_tfrecord_file_is_told(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("This is a text, and no TFRecord file at all.\n" * 100)
    with pytest.raises(ValueError, match=r"notes.txt: the file is damaged, or no TFRecord file"):
        scan(str(path))
    runs, [damage] = salvage(str(path))
    assert not runs and damage.record == 0
    with pytest.raises(ValueError, match="nothing: cannot be read"):
        scan(str(tmp_path / "nothing"))


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=12),
    flips=st.lists(st.tuples(st.integers(0), st.integers(1, 255)), min_size=1, max_size=3),
    with_manifest=st.booleans(),
)
def test_flipped_bytes_lose_the_records_they_hit_and_no_others(
    tmp_path_factory, sizes, flips, with_manifest
):
    """Against the positions of the flips: exact, whichever fields they hit."""
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    contents = [bytes([n]) * size for n, size in enumerate(sizes)]
    with RecordFile(path) as file:
        for content in contents:
            file.write(content)
    offsets = [0, *itertools.accumulate(size + 16 for size in sizes)]
    entry = {**file.entry, "index": [[n, o] for n, o in enumerate(offsets[:-1])]}
    data = bytearray(path.read_bytes())
    for position, change in flips:
        data[position % len(data)] ^= change
    whole = path.read_bytes()
    hit = {
        int(np.searchsorted(offsets, i, "right")) - 1
        for i in range(len(data))
        if data[i] != whole[i]
    }
    path.write_bytes(data)
    runs, damages = salvage(str(path), entry if with_manifest else None)
    kept = [n for n in range(len(sizes)) if n not in hit]
    if with_manifest:
        assert places(runs) == kept
        lost = [n for d in damages for n in range(d.record, d.record + d.records)]
        assert lost == sorted(hit)
    read = [data[o + 12 : o + 12 + sizes[n]] for n, o in enumerate(offsets[:-1]) if n in kept]
    found = []
    for run in runs:
        offset = run.index[0][1]
        for _ in range(run.count):
            size = int.from_bytes(data[offset : offset + 8], "little")
            found.append(data[offset + 12 : offset + 12 + size])
            offset += size + 16
    assert found == read
    assert bool(damages) == bool(hit)


def test_a_large_hole_is_searched_to_its_end(tmp_path, monkeypatch):
    """Across the borders of the pieces that are searched, and past a header with no record."""
    monkeypatch.setattr(record_scan, "_SEARCH_BYTES", 100)
    path = tmp_path / "x"
    length = (7).to_bytes(8, "little")
    decoy = length + masked_crc(length).to_bytes(4, "little") + b"no content with that checksum"
    offsets = write(path, [b"a" * 30, b"b" * 333 + decoy + b"b" * 90, b"c" * 30])
    data = bytearray(path.read_bytes())
    data[offsets[1]] ^= 1
    path.write_bytes(data)
    runs, [damage] = salvage(str(path))
    assert places(runs) == [0, 2] and runs[1].index == ((2, offsets[2]),)
    assert (damage.record, damage.reason) == (1, "its length is damaged")


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
    run = scan(str(tmp_path / "x"))
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
