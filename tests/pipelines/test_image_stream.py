import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from pipelines.images.image_records import ImageStream, write_image_records
from pipelines.images.image_views import ImageViews
from pipelines.shards.records import RecordFiles
from pipelines.shards.shard_files import to_example, write_shards
from tests.marks import slow
from tests.pipelines.image_fixtures import smooth

CLASSES = 5


def open_images_in(folder):
    """The stream of the records that a test has written."""
    records = RecordFiles.find(str(folder / "x-*"))
    return ImageStream(records, CLASSES, views=ImageViews(8))


@pytest.fixture(scope="module")
def open_images(tmp_path_factory):
    """`open_images(images, labels=None, files=1, **options) -> ImageStream`."""

    def open_images(images, labels=None, files=1, label_offset=1, **options):
        prefix = str(tmp_path_factory.mktemp("images") / "image")
        labels = [0] * len(images) if labels is None else labels
        write_image_records(images, labels, prefix, files, label_offset)
        records = RecordFiles.find(f"{prefix}-*")
        views = ImageViews(8, **options)
        return ImageStream(records, CLASSES, label_offset=label_offset, views=views)

    return open_images


def take(dataset, count):
    """Examples as arrays, with images in [0, 1]."""
    examples = [{k: v.numpy() for k, v in e.items()} for e in itertools.islice(dataset, count)]
    for example in examples:
        if example["images"].dtype == np.uint8:
            example["images"] = example["images"] / 255
    return examples


def training(source, seed, start, count):
    """Training examples as a list, which one batch brings."""
    [batch] = take(source.training(seed, start, count), 1)
    return [{name: value[place] for name, value in batch.items()} for place in range(count)]


@pytest.fixture(scope="module")
def seven(open_images):
    """A stream of seven images."""
    images = [smooth(20, 20, seed) for seed in range(7)]
    return open_images(images, [n % CLASSES for n in range(7)], files=2, crop_area=(0.1, 1.0))


@pytest.fixture(scope="module")
def whole(seven):
    """The first 30 examples of seed 2."""
    return training(seven, 2, 0, 30)


@pytest.mark.parametrize("start", [slow(1), slow(7), 16])
def test_the_same_number_is_the_same_example(seven, whole, start):
    for late, example in zip(training(seven, 2, start, 30 - start), whole[start:], strict=True):
        np.testing.assert_array_equal(late["images"], example["images"])
        assert late["image_labels"] == example["image_labels"]


def test_crops_depend_on_the_seed_and_the_number_alone(seven, whole):
    try:
        tf.random.set_seed(5)
        again = training(seven, 2, 0, 3)
    finally:
        tf.random.set_seed(None)
    for first, second in zip(again, whole, strict=False):
        np.testing.assert_array_equal(first["images"], second["images"])
    # An image is cropped anew every epoch, and by another seed in another way.
    assert len({example["images"].tobytes() for example in whole}) == 30
    other = training(seven, 3, 0, 30)
    assert not {e["images"].tobytes() for e in other} & {e["images"].tobytes() for e in whole}


@pytest.mark.parametrize("label_offset", [0, slow(1)])
def test_labels_begin_at_zero(open_images, label_offset):
    images = [np.full((8, 8, 3), 40 * label, np.uint8) for label in range(CLASSES)]
    source = open_images(images, range(CLASSES), label_offset=label_offset)
    validation = take(source.validation(), 9)
    for example in (*validation, *training(source, 0, 0, CLASSES)):
        assert example["image_labels"].dtype == np.int32
        assert round(example["images"].mean() * 255 / 40) == example["image_labels"]
    assert [example["image_labels"] for example in validation] == list(range(CLASSES))


def test_validation_takes_each_image_once_in_order(open_images):
    images = [np.full((8, 8, 3), 20 * n, np.uint8) for n in range(11)]
    source = open_images(images, files=3)
    values = [round(e["images"].mean() * 255 / 20) for e in take(source.validation(), 99)]
    assert values == [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8]
    part = [round(e["images"].mean() * 255 / 20) for e in take(source.validation(2, 6), 99)]
    assert part == values[2:6]


@pytest.mark.parametrize(
    ("stream", "label"), [("validation", -1), ("validation", CLASSES), ("training", CLASSES)]
)
def test_a_later_label_out_of_range_stops_the_stream(open_images, stream, label):
    source = open_images([smooth(8, 8)] * 4, [0, 1, label, 2])
    dataset = source.validation() if stream == "validation" else source.training(0, 0, 1)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        take(dataset, 4)
    assert f"{source.records.pattern}: an image label is out of range" in str(caught.value)
    assert f"[{label + 1}]" in str(caught.value)


def test_the_manifest_tells_the_label_of_the_first_class(tmp_path):
    encoded = tf.io.encode_jpeg(smooth(8, 8)).numpy()
    example = to_example({"image/encoded": encoded, "image/class/label": 1})
    write_shards([example], str(tmp_path / "x"), 1, settings={"label_offset": 1})
    source = open_images_in(tmp_path)
    with pytest.raises(ValueError, match=r"x.manifest.json: .*data.images.label_offset"):
        dataclasses.replace(source, label_offset=0)
