import collections
import dataclasses

import pytest

from pipelines.shards import streams
from pipelines.shards.records import RecordFiles
from pipelines.shards.shard_files import write_shards
from pipelines.shards.streams import ShuffledRecords

LANES, BLOCK, COUNT = 6, 3, 89  # 4 windows of 18 records, and 17 records that fill none


def content(number):
    return b"record %04d" % number


RECORD_BYTES = len(content(0)) + 16


@pytest.fixture(scope="module", autouse=True)
def small_windows():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "LANES", LANES)
        patch.setattr(streams, "BLOCK_BYTES", BLOCK * RECORD_BYTES)
        patch.setattr(streams, "MIN_BLOCK", 1)
        yield


def write(folder, count, shards):
    write_shards(map(content, range(count)), str(folder / "x"), shards)
    return RecordFiles.find(str(folder / "x-*"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """89 records in 5 files."""
    return write(tmp_path_factory.mktemp("records"), COUNT, 5)


def read(records, count, seed=1, start=0, shard=(1, 0)):
    """The first `(number, record)` pairs of a stream."""
    return first(ShuffledRecords(records, seed, shard).elements(start), count)


def first(stream, count):
    """The first `(number, record)` pairs of an endless dataset, which one batch brings."""
    numbers, records = next(iter(stream.batch(count)))
    return list(zip(numbers.numpy().tolist(), records.numpy().tolist(), strict=True))


@pytest.fixture(scope="module")
def whole(files):
    """Four epochs of seed 1."""
    return read(files, 4 * COUNT)


@pytest.fixture(scope="module")
def places(files):
    """The place of each record in the files."""
    return {record.numpy(): number for number, record in enumerate(files.in_order())}


def test_every_epoch_is_another_order_of_all_records(whole):
    numbers, elements = zip(*whole, strict=True)
    assert numbers == tuple(range(4 * COUNT))
    epochs = [elements[i * COUNT : (i + 1) * COUNT] for i in range(4)]
    assert all(sorted(epoch) == [*map(content, range(COUNT))] for epoch in epochs)
    assert len(set(epochs)) == 4


def test_a_window_is_one_block_of_each_lane(whole, places):
    """Brute force, from the description: rows take turns over the lanes, blocks come whole."""
    window, windows = LANES * BLOCK, COUNT // (LANES * BLOCK)
    for epoch in range(3):
        elements = whole[epoch * COUNT : (epoch + 1) * COUNT]
        blocks_of_lanes = collections.defaultdict(list)
        for w in range(windows):
            blocks = collections.defaultdict(list)
            for number, record in elements[w * window : (w + 1) * window]:
                assert places[record] // BLOCK % LANES == number % LANES
                blocks[number % LANES].append(places[record])
            for lane, found in blocks.items():
                [block] = {place // BLOCK for place in found}
                assert sorted(found) == [block * BLOCK + i for i in range(BLOCK)]
                blocks_of_lanes[lane].append(block)
        assert all(len(set(blocks)) == windows for blocks in blocks_of_lanes.values())
        rest = sorted(places[record] for _, record in elements[windows * window :])
        assert rest == list(range(windows * window, COUNT))


def test_blocks_and_records_within_them_come_in_every_order(files, places):
    """First block of a lane and first record of a block, over 30 epochs: uniform by chi-square."""
    blocks, records = collections.Counter(), collections.Counter()
    elements = read(files, 30 * COUNT, seed=5)
    for epoch in range(30):
        for lane_place in range(LANES):
            place = places[elements[epoch * COUNT + lane_place][1]]
            blocks[place // BLOCK // LANES] += 1
            records[place % BLOCK] += 1
    for counts, kinds in ((blocks, 4), (records, BLOCK)):
        expected = 30 * LANES / kinds
        assert len(counts) == kinds
        assert sum((c - expected) ** 2 / expected for c in counts.values()) < 16  # p < 0.002


@pytest.mark.parametrize("start", [73, 2 * COUNT + 17])
def test_a_late_start_equals_the_stream_without_its_beginning(files, whole, start):
    """Among the last records of an epoch, and in the first window of a later one."""
    assert read(files, 50, start=start) == whole[start : start + 50]


def test_a_small_set_is_entered_anywhere(files, monkeypatch):
    """It has no window."""
    monkeypatch.setattr(streams, "BLOCK_BYTES", 1000 * RECORD_BYTES)
    assert read(files, 50, start=COUNT + 40) == read(files, 2 * COUNT + 1)[COUNT + 40 :][:50]


@pytest.mark.parametrize(("host", "hosts"), [(1, 2), (4, 5)])
def test_hosts_divide_the_stream(files, whole, host, hosts):
    """2 divides the lanes, 5 does not."""
    wanted = [element for element in whole[31 : 2 * COUNT] if element[0] % hosts == host]
    assert read(files, len(wanted), start=31, shard=(hosts, host)) == wanted
    in_memory = dataclasses.replace(files, in_memory=True, memory={})
    assert read(in_memory, len(wanted), start=31, shard=(hosts, host)) == wanted


def test_records_in_memory_are_read_once_and_from_their_own_lanes(tmp_path):
    found = write(tmp_path, COUNT, 2)
    records = dataclasses.replace(found, in_memory=True)
    expected = read(found, 40, shard=(2, 1))
    stream = ShuffledRecords(records, 1, (2, 1))
    for path in tmp_path.glob("x-0*"):
        path.unlink()
    assert first(stream.elements(), 40) == expected
    assert len(records.memory[2, 1]) == 4 * BLOCK * LANES // 2 + 17


def test_the_order_depends_on_the_seed(files, whole):
    assert read(files, 2 * COUNT, seed=8) != whole[: 2 * COUNT]
    assert read(files, 2, seed=2**33 + 1) != whole[:2]  # seeds are 64 bits long


@pytest.mark.parametrize("count", [1, 19])
def test_sets_of_any_size(tmp_path, count):
    records = write(tmp_path, count, 2)
    elements = read(records, 3 * count)
    for epoch in range(3):
        part = elements[epoch * count : (epoch + 1) * count]
        assert sorted(record for _, record in part) == [*map(content, range(count))]
    assert read(records, count, start=count + count // 2) == elements[count + count // 2 :][:count]
