import itertools

import numpy as np
import pytest
import tensorflow as tf

from pipelines.images.image_records import ImageRecordFiles
from pipelines.shards.records import RecordFiles
from pipelines.shards.shard_files import to_example, write_shards


def png(value):
    return tf.io.encode_png(np.full((4, 4, 3), value, np.uint8)).numpy()


@pytest.fixture
def store(tmp_path):
    """Six images whose pixels are their labels, 1 to 6, in two files."""
    examples = ({"image/encoded": png(n), "image/class/label": n} for n in range(1, 7))
    write_shards(map(to_example, examples), str(tmp_path / "x"), 2)
    return ImageRecordFiles(RecordFiles.find(f"{tmp_path}/x-*"), 6)


def labels(dataset, store):
    """The labels of serialized records, which must be those of their pixels."""
    found = []
    for serialized in dataset:
        encoded, stored = store.read(serialized)
        assert int(tf.io.decode_png(encoded)[0, 0, 0]) == int(stored)
        found.append(int(store.to_labels(stored)))
    return found


def test_records_are_read_in_order_in_parts_and_shuffled(store):
    in_order = [0, 2, 4, 1, 3, 5]
    assert store.count == 6 and labels(store.in_order(), store) == in_order
    assert labels(store.in_order(2, 5), store) == labels(store.part([(2, 5)]).in_order(), store)
    assert labels(store.in_order(2, 5), store) == in_order[2:5]
    elements = list(itertools.islice(store.elements(3, 6, (1, 0)), 6))
    assert [int(number) for number, _ in elements] == list(range(6, 12))
    assert sorted(labels((record for _, record in elements), store)) == list(range(6))


def test_an_image_is_described_by_its_place_in_the_files(store):
    """Also in a part; three images are in each file."""

    def described(store):
        return [about["record"] for about in store.descriptions()]

    assert described(store) == [f"x-{file:05}-of-00002:{n}" for file in range(2) for n in range(3)]
    assert described(store.part([(1, 2), (4, 6)])) == [described(store)[n] for n in (1, 4, 5)]


def test_the_manifest_tells_the_label_of_the_first_class(tmp_path):
    write_shards([to_example({"x": 1})], str(tmp_path / "x"), 1, settings={"label_offset": 1})
    with pytest.raises(ValueError, match=r"x.manifest.json: .*data.images.label_offset"):
        ImageRecordFiles(RecordFiles.find(f"{tmp_path}/x-*"), 6, label_offset=0)


def test_damage_is_found_by_file_and_record(store, tmp_path):
    assert store.first_damage() is None
    images = [png(1), png(2), png(3), png(4)[:30]]
    examples = [to_example({"image/encoded": image, "image/class/label": 1}) for image in images]
    write_shards(examples, str(tmp_path / "y"), 2)
    damaged = ImageRecordFiles(RecordFiles.find(f"{tmp_path}/y-*"), 6)
    assert str(damaged.first_damage()).startswith(f"{tmp_path}/y-00001-of-00002: record 1: ")
