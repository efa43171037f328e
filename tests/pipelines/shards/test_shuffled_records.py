import collections
import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from pipelines.command_line import UserError
from pipelines.shards import shuffled_records
from pipelines.shards.records import RecordFiles
from pipelines.shards.shuffled_records import ShuffledRecords
from pipelines.shards.tfrecords import write_shards

LANES, BLOCK, COUNT = 6, 3, 89  # 4 windows of 18 records, and 17 records that fill none


def content(number):
    return b"record %04d" % number


RECORD_BYTES = len(content(0)) + 16


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(shuffled_records, "LANES", LANES)
    monkeypatch.setattr(shuffled_records, "BLOCK_BYTES", BLOCK * RECORD_BYTES)
    monkeypatch.setattr(shuffled_records, "MIN_BLOCK", 1)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """89 records in 5 files."""
    prefix = str(tmp_path_factory.mktemp("records") / "train")
    write_shards(map(content, range(COUNT)), prefix, 5)
    return RecordFiles.find(f"{prefix}-*", "flag")


def read(records, count, seed=1, start=0, shard=(1, 0), cache=False):
    """The first `(number, record)` pairs of a stream."""
    stream = ShuffledRecords(records, seed, shard, cache).elements(start)
    return [(int(n), record.numpy()) for n, record in itertools.islice(stream, count)]


def in_file_order(records):
    return [record.numpy() for record in records.in_order()]


def test_every_epoch_is_another_order_of_all_records(files):
    numbers, elements = zip(*read(files, 4 * COUNT), strict=True)
    assert numbers == tuple(range(4 * COUNT))
    epochs = [elements[i * COUNT : (i + 1) * COUNT] for i in range(4)]
    assert all(sorted(epoch) == [*map(content, range(COUNT))] for epoch in epochs)
    assert len(set(epochs)) == 4


def test_a_window_is_one_block_of_each_lane(files):
    """Brute force, from the description: rows take turns over the lanes, blocks come whole."""
    place = {record: number for number, record in enumerate(in_file_order(files))}
    window, windows = LANES * BLOCK, COUNT // (LANES * BLOCK)
    for epoch in range(3):
        elements = read(files, COUNT, start=epoch * COUNT)
        blocks_of_lanes = collections.defaultdict(list)
        for w in range(windows):
            blocks = collections.defaultdict(list)
            for number, record in elements[w * window : (w + 1) * window]:
                assert place[record] // BLOCK % LANES == number % LANES
                blocks[number % LANES].append(place[record])
            for lane, places in blocks.items():
                [block] = {p // BLOCK for p in places}
                assert sorted(places) == [block * BLOCK + i for i in range(BLOCK)]
                blocks_of_lanes[lane].append(block)
        assert all(len(set(blocks)) == windows for blocks in blocks_of_lanes.values())
        rest = sorted(place[record] for _, record in elements[windows * window :])
        assert rest == list(range(windows * window, COUNT))


def test_blocks_and_records_within_them_come_in_every_order(files):
    """First block of a lane and first record of a block, over 60 epochs: uniform by chi-square."""
    place = {record: number for number, record in enumerate(in_file_order(files))}
    blocks, records = collections.Counter(), collections.Counter()
    elements = read(files, 60 * COUNT, seed=5)
    for epoch in range(60):
        for lane_place in range(LANES):
            first = place[elements[epoch * COUNT + lane_place][1]]
            blocks[first // BLOCK // LANES] += 1
            records[first % BLOCK] += 1
    for counts, kinds in ((blocks, 4), (records, BLOCK)):
        expected = 60 * LANES / kinds
        assert len(counts) == kinds
        assert sum((c - expected) ** 2 / expected for c in counts.values()) < 16  # p < 0.002


def test_a_small_set_is_shuffled_as_a_whole(files, monkeypatch):
    """Each record comes first about as often: 200 epochs, 89 records."""
    monkeypatch.setattr(shuffled_records, "BLOCK_BYTES", 1000 * RECORD_BYTES)
    stream = [record for _, record in read(files, 200 * COUNT)]
    first = collections.Counter(stream[::COUNT])
    assert len(first) > 65 and max(first.values()) < 11  # 2.2 each; 80 of 89 are to be expected
    followers = set(itertools.pairwise(stream[:COUNT])) & set(itertools.pairwise(stream[COUNT:]))
    assert len(followers) < 0.99 * COUNT


@pytest.mark.parametrize("block", [BLOCK, 1000])
@pytest.mark.parametrize("start", [17, 73, COUNT, 2 * COUNT + 40])
def test_a_late_start_equals_the_stream_without_its_beginning(files, start, block, monkeypatch):
    monkeypatch.setattr(shuffled_records, "BLOCK_BYTES", block * RECORD_BYTES)
    whole = read(files, start + 50, seed=3)
    assert read(files, 50, seed=3, start=start) == whole[start:]


@pytest.mark.parametrize(("hosts", "cache"), [(2, False), (2, True), (4, True), (5, False)])
def test_hosts_divide_the_stream(files, hosts, cache):
    """2 divides the lanes, 4 in part, 5 not at all."""
    whole = read(files, 2 * COUNT)
    for host in {0, 1, hosts - 1}:
        wanted = [element for element in whole[31:] if element[0] % hosts == host]
        found = read(files, len(wanted), start=31, shard=(hosts, host), cache=cache)
        assert found == wanted


def test_three_hosts_in_two_epochs_see_each_record_twice(files):
    elements = 2 * COUNT // 3
    hosts = [read(files, elements + 1, shard=(3, host)) for host in range(3)]
    seen = collections.Counter(r for host in hosts for n, r in host if n < 2 * COUNT)
    assert seen == dict.fromkeys(map(content, range(COUNT)), 2)


@pytest.mark.parametrize("hosts", [2])
def test_hosts_open_their_own_parts_of_the_files(files, hosts):
    """The lanes of different hosts are disjoint in every epoch, and together they are the set."""
    windows = COUNT // (LANES * BLOCK) * LANES * BLOCK
    read_by = []
    for host in range(hosts):
        asked = set()

        def reader(begin, count, asked=asked):
            def note(begin):
                asked.update(range(int(begin), int(begin) + BLOCK))
                return np.int64(0)

            noted = tf.numpy_function(note, [begin], tf.int64)
            return files.reader(begin + noted, count)

        stream = ShuffledRecords(files, 1, (hosts, host))
        stream._read = reader
        for _ in itertools.islice(stream.elements(), 3 * COUNT // hosts):
            pass
        read_by.append({place for place in asked if place < windows})
    assert set.union(*read_by) == set(range(windows))
    assert sum(map(len, read_by)) == windows


def test_the_order_depends_on_the_seed_alone(files):
    expected = read(files, 2 * COUNT, seed=7)
    try:
        for global_seed in (0, 1):
            tf.random.set_seed(global_seed)
            assert read(files, 2 * COUNT, seed=7) == expected
    finally:
        tf.random.set_seed(None)
    assert read(files, 2 * COUNT, seed=8) != expected
    assert read(files, 2, seed=2**33 + 1) != read(files, 2, seed=1)  # seeds are 64 bits long


@pytest.mark.parametrize("count", [1, 5, 19])
def test_sets_of_any_size(tmp_path, count):
    write_shards(map(content, range(count)), str(tmp_path / "x"), 2)
    records = RecordFiles.find(str(tmp_path / "x-*"), "flag")
    elements = read(records, 3 * count)
    for epoch in range(3):
        part = elements[epoch * count : (epoch + 1) * count]
        assert sorted(record for _, record in part) == [*map(content, range(count))]
    assert read(records, count, start=count + count // 2) == elements[count + count // 2 :][:count]


def test_the_cache_reads_once_and_from_its_own_lanes(files, tmp_path):
    write_shards(map(content, range(COUNT)), str(tmp_path / "x"), 2)
    records = RecordFiles.find(str(tmp_path / "x-*"), "flag")
    expected = read(records, 40, shard=(2, 1))
    cached = ShuffledRecords(records, 1, (2, 1), cache=True)
    for path in tmp_path.glob("x-0*"):
        path.unlink()
    found = [(int(n), r.numpy()) for n, r in itertools.islice(cached.elements(), 40)]
    assert found == expected
    assert len(records.memory[2, 1]) == 4 * BLOCK * LANES // 2 + 17
    assert read(records, 40, shard=(2, 1), cache=True) == expected  # read again: from memory


def test_a_cache_without_room_is_refused(files, monkeypatch):
    monkeypatch.setattr(shuffled_records, "_available_memory", lambda: 1000)
    fresh = RecordFiles.find(files.pattern, "flag")
    with pytest.raises(UserError, match="--cache: .*train-.* GB are free; leave --cache out"):
        ShuffledRecords(fresh, 1, cache=True)
    assert shuffled_records._available_memory() == 1000


def test_the_memory_of_this_machine_is_known():
    assert 1e8 < shuffled_records._available_memory() <= math.inf
