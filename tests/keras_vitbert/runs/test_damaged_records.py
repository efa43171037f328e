"""Failures while records are read, told to the user."""

import types

import pytest
import tensorflow as tf

from keras_vitbert.runs.damaged_records import reading
from pipelines.images.image_records import ImageStream
from pipelines.images.image_views import ImageViews
from pipelines.shards.records import RecordFiles
from pipelines.shards.shard_files import write_shards
from tests.keras_vitbert.tiny_runs import CLASSES, IMAGE_SIZE

NOTHING = types.SimpleNamespace(
    images=None, image_validation=None, texts=None, text_validation=None
)


def failure(kind=tf.errors.InvalidArgumentError, place="IteratorGetNext"):
    return kind(None, None, f"Invalid JPEG data [[{{{{node {place}}}}}]]")


def test_the_record_is_found_and_named(sources, tmp_path):
    [path] = sources.glob("images-train-00000-of-*")
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    example = tf.train.Example.FromString(records[3])
    example.features.feature["image/encoded"].bytes_list.value[0] = b"no image"
    records[3] = example.SerializeToString()
    write_shards(records, str(tmp_path / "x"), 1)
    records = RecordFiles.find(f"{tmp_path}/x-*")
    images = ImageStream(records, CLASSES, views=ImageViews(IMAGE_SIZE))
    stream = types.SimpleNamespace(**{**vars(NOTHING), "images": images})
    message = r"x-00000-of-00001: record 3: .*;"
    with pytest.raises(ValueError, match=message), reading(stream):
        for _ in images.validation():  # TensorFlow does not say which one it was
            pass


@pytest.mark.parametrize("place", ["IteratorGetNext", "assertion failed: [x]"])
def test_where_nothing_is_found_the_reason_is_told(place):
    with pytest.raises(ValueError, match="^Invalid JPEG data.*; write the file again"):
        with reading(NOTHING):
            raise failure(place=place)


def test_other_failures_pass():
    for error in (failure(place="network/block_0/MatMul"), failure(tf.errors.UnavailableError)):
        with pytest.raises(type(error)) as caught, reading(NOTHING):
            raise error
        assert caught.value is error
    with pytest.raises(ValueError, match="mine"), reading(NOTHING):
        raise ValueError("mine IteratorGetNext")
