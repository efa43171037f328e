import itertools
import os

import tensorflow as tf

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
