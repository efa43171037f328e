import collections
import itertools

import pytest
import tensorflow as tf

from keras_vitbert.command_line import UserError
from pipelines.records import RecordFiles, count_records
from pipelines.tfrecords import write_shards

COUNT = 23


def content(number):
    return b"record %02d " % number * (1 + number % 5)  # of different lengths


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """23 records in 4 files of different sizes."""
    prefix = str(tmp_path_factory.mktemp("records") / "train")
    assert write_shards(map(content, range(COUNT)), prefix, 4) == COUNT
    return RecordFiles.find(f"{prefix}-*", "some_flag")


def read(dataset, count):
    """The first `(number, record)` pairs of a stream."""
    return [(int(n), record.numpy()) for n, record in itertools.islice(dataset, count)]


def records(dataset, count):
    return [record for _, record in read(dataset, count)]


def test_counts_by_headers_equal_a_reading(files):
    sizes = [count_records(file) for file in files.files]
    assert sizes == [len(list(tf.data.TFRecordDataset(file))) for file in files.files]
    assert sum(sizes) == files.count == COUNT
    assert list(files.files) == sorted(files.files) and len(files.files) == 4


def test_empty_files_and_empty_records_count_too(tmp_path):
    write_shards([b"", b"x", b""], str(tmp_path / "a"), 1)
    write_shards([], str(tmp_path / "b"), 1)
    assert count_records(str(tmp_path / "a-00000-of-00001")) == 3
    assert count_records(str(tmp_path / "b-00000-of-00001")) == 0
    assert RecordFiles.find(str(tmp_path / "*"), "flag").count == 3


def test_a_file_cut_anywhere_is_told(tmp_path):
    write_shards([b"abc", b"defgh"], str(tmp_path / "x"), 1)
    path = tmp_path / "x-00000-of-00001"
    whole = path.read_bytes()
    first = 8 + 4 + 3 + 4  # bytes of the first record
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        if length == first:
            assert count_records(str(path)) == 1
        else:
            where = rf"{path} is cut short .*\(in record {int(length > first)}\)"
            with pytest.raises(UserError, match=where):
                count_records(str(path))


def test_what_is_no_tfrecord_is_told(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("This is a text, and no TFRecord file at all.\n" * 100)
    with pytest.raises(UserError, match="notes.txt is cut short or no TFRecord file"):
        RecordFiles.find(str(path), "flag")


def test_bad_patterns_are_told_with_their_flag(tmp_path):
    write_shards([], str(tmp_path / "empty"), 2)
    for pattern, message in (
        ("", r"--some_flag is empty"),
        (str(tmp_path / "none-*"), r"no file matches .*none-\*; mend --some_flag"),
        (str(tmp_path / "no_folder" / "none-*"), r"no file matches .*mend --some_flag"),
        (str(tmp_path / "empty-*"), r"empty-\* holds no records; .* --some_flag"),
    ):
        with pytest.raises(UserError, match=message):
            RecordFiles.find(pattern, "some_flag")


def test_in_order_is_file_after_file(files):
    expected = [r.numpy() for file in files.files for r in tf.data.TFRecordDataset(file)]
    assert [record.numpy() for record in files.in_order()] == expected


@pytest.mark.parametrize("shuffle_buffer", [1, 5, 10_000])
def test_every_epoch_is_another_order_of_all_records(files, shuffle_buffer):
    stream = files.endless(seed=1, shuffle_buffer=shuffle_buffer)
    numbers, elements = zip(*read(stream, 4 * COUNT), strict=True)
    assert numbers == tuple(range(4 * COUNT))
    epochs = [elements[i * COUNT : (i + 1) * COUNT] for i in range(4)]
    everything = collections.Counter(map(content, range(COUNT)))
    assert all(collections.Counter(epoch) == everything for epoch in epochs)
    assert len(set(epochs)) == 4
    assert tuple(map(content, range(COUNT))) not in epochs


def test_the_order_is_well_mixed(files):
    """Each record comes first about as often: 200 epochs, 23 records."""
    stream = records(files.endless(seed=0), 200 * COUNT)
    first = collections.Counter(stream[::COUNT])
    assert len(first) > 20 and max(first.values()) < 25  # 8.7 each, standard deviation 2.9


@pytest.mark.parametrize("shuffle_buffer", [5, 10_000])
@pytest.mark.parametrize("start", [1, COUNT - 1, COUNT, COUNT + 1, 2 * COUNT + 7])
def test_a_late_start_equals_the_stream_without_its_beginning(files, start, shuffle_buffer):
    whole = read(files.endless(3, shuffle_buffer=shuffle_buffer), start + 2 * COUNT)
    late = read(files.endless(3, start, shuffle_buffer), 2 * COUNT)
    assert late == whole[start:]


def test_one_file_is_a_stream_as_well(files):
    one = RecordFiles.find(files.files[0], "flag")
    stream = read(one.endless(5), 3 * one.count)
    assert read(one.endless(5, 4), 3 * one.count - 4) == stream[4:]
    assert len({record for _, record in stream}) == one.count


def test_the_order_depends_on_the_seed_alone(files):
    expected = records(files.endless(7), 2 * COUNT)
    try:
        for global_seed in (0, 1):
            tf.random.set_seed(global_seed)
            assert records(files.endless(7), 2 * COUNT) == expected
            assert records(files.endless(7, COUNT), COUNT) == expected[COUNT:]
    finally:
        tf.random.set_seed(None)
    assert records(files.endless(8), 2 * COUNT) != expected
    twice = files.endless(7)
    assert records(twice, COUNT) == records(twice, COUNT) == expected[:COUNT]


def test_the_first_example_passes_over_empty_files(tmp_path):
    write_shards([], str(tmp_path / "a"), 1)
    example = tf.train.Example()
    example.features.feature["x"].int64_list.value.append(7)
    write_shards([example.SerializeToString(), b"another"], str(tmp_path / "b"), 1)
    assert RecordFiles.find(str(tmp_path / "*"), "flag").first_example() == example


def test_a_damaged_first_record_is_told(tmp_path):
    write_shards([b"some content"], str(tmp_path / "x"), 1)
    path = tmp_path / "x-00000-of-00001"
    with pytest.raises(UserError, match="x-00000-of-00001: the first record is damaged"):
        RecordFiles.find(str(path), "flag").first_example()  # no such message
    write_shards([tf.train.Example().SerializeToString() + b" "], str(tmp_path / "x"), 1)
    damaged = bytearray(path.read_bytes())
    damaged[12] ^= 1  # the payload, so that its CRC is wrong
    path.write_bytes(damaged)
    with pytest.raises(UserError, match="x-00000-of-00001: the first record is damaged"):
        RecordFiles.find(str(path), "flag").first_example()
