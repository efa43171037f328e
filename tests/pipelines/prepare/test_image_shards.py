import collections
import os
import threading

import pytest
import tensorflow as tf

from pipelines.prepare import image_shards
from pipelines.prepare.image_shards import ImageShardsJob, LabelledImage
from tests.pipelines.image_fixtures import jpeg


class Sink(list):
    write = list.append


def test_every_image_is_in_one_shard(tmp_path):
    class Job(ImageShardsJob):
        source, classes = "memory", ("a", "b")

        def __init__(self, count):
            self.count = count

        def images(self, start, stop):
            for number in range(start, stop):
                name = os.fsdecode(b"folder/\xfc%d" % number)  # Latin-1, as some archives have
                yield LabelledImage(name, number % 2, lambda: data)

    data = jpeg(0, (8, 8))
    for count, shards in ((7, 3), (64, 64)):
        sinks = [Sink() for _ in range(shards)]
        total = collections.Counter()
        for shard, sink in enumerate(sinks):
            total.update(Job(count).write_shard(shard, shards, sink)[0])
        assert total["images"] == count
        sizes = [len(sink) for sink in sinks]
        assert max(sizes) - min(sizes) <= 1 and min(sizes) > 0
        examples = [tf.train.Example.FromString(record) for sink in sinks for record in sink]
        names = [e.features.feature["image/filename"].bytes_list.value[0] for e in examples]
        assert names == [b"\xfc%d" % number for number in range(count)]  # in order, no folders
        for number, example in enumerate(examples):
            assert example.features.feature["image/class/label"].int64_list.value[:] == [
                number % 2 + 1
            ]


def test_images_are_read_in_threads_and_come_in_order():
    """Only so many ahead of the one that is used, whatever their number."""
    lock, begun, ahead = threading.Lock(), [], []

    def square(number):
        with lock:
            begun.append(number)
        return number**2

    for item, result in image_shards._in_parallel(square, range(300)):
        assert result == item**2 and item == len(ahead)
        ahead.append(len(begun) - item)
    assert len(ahead) == 300 == len(begun)
    assert max(ahead) <= 2 * 8 + 1


def test_the_latest_version_is_taken(tmp_path, monkeypatch):
    """By number: 5.10.0 comes after 5.9.0."""

    class Opened(Exception):
        pass

    def opened(data_dir, version):
        raise Opened(version)

    monkeypatch.setattr(image_shards, "open_builder", opened)
    for version in ("5.10.0", "5.9.0", "5.1.0"):
        (tmp_path / "imagenet2012" / version).mkdir(parents=True)
        (tmp_path / "imagenet2012" / version / "dataset_info.json").touch()
    (tmp_path / "imagenet2012" / "6.0.0.incomplete").mkdir()
    with pytest.raises(Opened, match="^5.10.0$"):
        image_shards.find_tfds_splits(str(tmp_path))
