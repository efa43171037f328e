import itertools
import os
import threading

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
        sinks, written = [Sink() for _ in range(shards)], 0
        for shard, sink in enumerate(sinks):
            written += Job(count).write_shard(shard, shards, sink)[0]["images"]
        assert written == count
        sizes = [len(sink) for sink in sinks]
        assert max(sizes) - min(sizes) <= 1 and min(sizes) > 0
        for number, record in enumerate(itertools.chain(*sinks)):
            fields = tf.train.Example.FromString(record).features.feature
            # In order, without folders.
            assert fields["image/filename"].bytes_list.value[:] == [b"\xfc%d" % number]
            assert fields["image/class/label"].int64_list.value[:] == [number % 2 + 1]


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
