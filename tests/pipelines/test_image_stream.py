import collections
import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from pipelines.command_line import UserError
from pipelines.image_stream import ImageStream
from pipelines.images.image_records import write_image_records
from pipelines.shards.records import RecordFiles
from pipelines.shards.tfrecords import to_example, write_shards
from tests.pipelines.image_fixtures import PILLOWS_ROUNDING, pillow

CLASSES = 5


def smooth(height, width, seed=0, one_hue=False):
    """An image of waves with a bright top left corner: a wave a colour, or one for all."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(x * a + y * b) for a, b in random.uniform(-6, 6, (3, 2))]
    image = 110 + 50 * np.stack(waves[:1] * 3 if one_hue else waves, -1)
    image[: height // 3, : width // 3] += 40
    return (image + [30, 0, -30]).astype(np.uint8)


@pytest.fixture(scope="module")
def open_images(tmp_path_factory):
    """`open_images(images, labels=None, files=1, **options) -> ImageStream`."""

    def open_images(images, labels=None, files=1, label_offset=1, **options):
        prefix = str(tmp_path_factory.mktemp("images") / "image")
        labels = [0] * len(images) if labels is None else labels
        write_image_records(images, labels, prefix, files, label_offset)
        records = RecordFiles.find(f"{prefix}-*", "flag")
        options = {"image_size": 8, "num_classes": CLASSES, **options}
        return ImageStream(records, label_offset=label_offset, **options).check()

    return open_images


def encoded_images(source):
    """The JPEGs of a source, in order."""
    examples = [tf.train.Example.FromString(r.numpy()) for r in source.records.in_order()]
    return [e.features.feature["image/encoded"].bytes_list.value[0] for e in examples]


def take(dataset, count):
    """Examples as arrays, with images in [0, 1]."""
    examples = [{k: v.numpy() for k, v in e.items()} for e in itertools.islice(dataset, count)]
    for example in examples:
        if example["images"].dtype == np.uint8:
            example["images"] = example["images"] / 255
    return examples


def training(source, seed, start, count):
    """Training examples one by one."""
    return take(source.training(seed, start, 1).unbatch(), count)


@pytest.mark.parametrize(
    ("height", "width", "size"), [(30, 30, 30), (47, 31, 16), (20, 33, 24), (9, 9, 18)]
)
def test_validation_is_the_central_square(open_images, height, width, size):
    for central_crop in (1.0, 0.875, 0.5):
        # One hue: a decoder that leaves the surroundings out smooths hues otherwise at the edge.
        image = smooth(height, width, one_hue=True)
        source = open_images([image], image_size=size, central_crop=central_crop)
        side = round(min(height, width) * central_crop)
        left, top = (width - side) // 2, (height - side) // 2
        [encoded], [example] = encoded_images(source), take(source.validation(), 2)
        expected = pillow(encoded, size, (left, top, left + side, top + side))
        assert example["images"].shape == (size, size, 3)
        np.testing.assert_allclose(example["images"], expected, atol=PILLOWS_ROUNDING)


def test_training_without_crop_and_flip_is_the_whole_image(open_images):
    images = [smooth(12, 16, seed) for seed in range(3)]  # 4:3, the widest that a crop may be
    options = {"crop_area": (1.0, 1.0), "flip": False, "image_size": 16}
    source = open_images(images, [0, 1, 2], **options)
    expected = [pillow(encoded, 16) for encoded in encoded_images(source)]
    for example in training(source, 0, 0, 9):
        wanted = expected[example["image_labels"]]
        np.testing.assert_allclose(example["images"], wanted, atol=PILLOWS_ROUNDING)


def test_half_of_the_images_are_mirrored(open_images):
    options = {"crop_area": (1.0, 1.0), "image_size": 16}
    source = open_images([smooth(16, 16)], **options)
    [straight] = training(open_images([smooth(16, 16)], flip=False, **options), 0, 0, 1)
    straight = straight["images"]
    mirrored = straight[:, ::-1]
    kinds = collections.Counter()
    for example in training(source, 0, 0, 200):
        kind = "straight" if np.array_equal(example["images"], straight) else "mirrored"
        if kind == "mirrored":
            np.testing.assert_array_equal(example["images"], mirrored)
        kinds[kind] += 1
    assert 70 < kinds["mirrored"] < 130  # 100, standard deviation 7


def test_crops_keep_within_the_area_and_differ(open_images):
    """The image's colours are its coordinates, so that the corners tell where a crop lies."""
    height, width, size = 120, 160, 16
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 1.5, y * 2, np.full_like(x, 100)], -1).astype(np.uint8)
    source = open_images([image], crop_area=(0.2, 0.6), flip=False, image_size=size)
    areas, boxes = [], set()
    for example in training(source, 4, 0, 200):
        red, green = example["images"][..., 0] * 255 / 1.5, example["images"][..., 1] * 255 / 2
        # From the first to the last pixel's centre it is (size - 1) / size of the window.
        window_width = (red[:, -1] - red[:, 0]).mean() * size / (size - 1)
        window_height = (green[-1] - green[0]).mean() * size / (size - 1)
        areas.append(window_width * window_height / (height * width))
        assert 0.7 < window_width / window_height < 1.43  # 3:4 to 4:3
        boxes.add((round(red[:, 0].mean()), round(green[0].mean()), round(window_width)))
    assert 0.18 < min(areas) < 0.27 and 0.53 < max(areas) < 0.63
    assert len(boxes) > 190


def test_the_same_number_is_the_same_example(open_images):
    images = [smooth(20, 20, seed) for seed in range(7)]
    source = open_images(images, [n % CLASSES for n in range(7)], files=2, crop_area=(0.1, 1.0))
    whole = training(source, 2, 0, 30)
    for start in (1, 7, 16):
        for late, example in zip(
            training(source, 2, start, 30 - start), whole[start:], strict=True
        ):
            np.testing.assert_array_equal(late["images"], example["images"])
            assert late["image_labels"] == example["image_labels"]
    try:
        tf.random.set_seed(5)
        again = training(source, 2, 0, 3)
    finally:
        tf.random.set_seed(None)
    for first, second in zip(again, whole, strict=False):
        np.testing.assert_array_equal(first["images"], second["images"])
    # An image is cropped anew every epoch, and by another seed in another way.
    assert len({example["images"].tobytes() for example in whole}) == 30
    other = training(source, 3, 0, 30)
    assert not {e["images"].tobytes() for e in other} & {e["images"].tobytes() for e in whole}


@pytest.mark.parametrize("label_offset", [0, 1])
def test_labels_begin_at_zero(open_images, label_offset):
    images = [np.full((8, 8, 3), 40 * label, np.uint8) for label in range(CLASSES)]
    source = open_images(images, range(CLASSES), label_offset=label_offset)
    for examples in (take(source.validation(), CLASSES), training(source, 0, 0, CLASSES)):
        for example in examples:
            assert example["image_labels"].dtype == np.int32
            assert round(example["images"].mean() * 255 / 40) == example["image_labels"]
    assert [e["image_labels"] for e in take(source.validation(), 9)] == list(range(CLASSES))


def test_grey_jpegs_come_out_in_three_channels(tmp_path):
    grey = smooth(20, 20)[..., :1]
    encoded = tf.io.encode_jpeg(grey, format="grayscale", quality=95).numpy()
    example = to_example({"image/encoded": encoded, "image/class/label": 1})
    write_shards([example], str(tmp_path / "x"), 1)
    records = RecordFiles.find(str(tmp_path / "*"), "flag")
    source = ImageStream(records, 20, 1, central_crop=1.0, crop_area=(1.0, 1.0), flip=False)
    expected = pillow(encoded, 20)
    for [example] in (take(source.validation(), 1), training(source, 0, 0, 1)):
        np.testing.assert_allclose(example["images"], expected, atol=PILLOWS_ROUNDING)


def test_validation_takes_each_image_once_in_order(open_images):
    images = [np.full((8, 8, 3), 20 * n, np.uint8) for n in range(11)]
    source = open_images(images, files=3)
    values = [round(e["images"].mean() * 255 / 20) for e in take(source.validation(), 99)]
    assert values == [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8]
    part = [round(e["images"].mean() * 255 / 20) for e in take(source.validation(2, 6), 99)]
    assert part == values[2:6]


def test_the_first_record_is_checked(tmp_path):
    encoded = tf.io.encode_jpeg(smooth(8, 8)).numpy()

    def check(**features):
        write_shards([to_example(features)], str(tmp_path / "x"), 1)
        ImageStream(RecordFiles.find(str(tmp_path / "*"), "flag"), 8, CLASSES).check()

    check(**{"image/encoded": encoded, "image/class/label": CLASSES})
    for features, message in (
        ({"image/encoded": encoded, "label": 1}, r"no field 'image/class/label' .* but .*'label'"),
        ({"image": encoded, "image/class/label": 1}, "no field 'image/encoded'"),
        ({"image/encoded": encoded, "image/class/label": 0}, r"label 0 is not in 1\.\.5; mend"),
        ({"image/encoded": encoded, "image/class/label": 6}, r"label 6 is not in 1\.\.5; mend"),
        ({"image/encoded": encoded, "image/class/label": "1"}, "'image/class/label'"),
        ({"image/encoded": 3, "image/class/label": 1}, "'image/encoded'"),
    ):
        with pytest.raises(UserError, match="x-00000-of-00001: .*" + message):
            check(**features)


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_later_label_out_of_range_stops_the_stream(open_images, label):
    source = open_images([smooth(8, 8)] * 4, [0, 1, label, 2])
    for dataset in (source.validation(), source.training(0, 0, 1)):
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            take(dataset, 4)
        assert f"{source.records.pattern}: an image label is out of range" in str(caught.value)
        assert f"[{label + 1}]" in str(caught.value)


def test_other_formats_are_read_as_well(tmp_path):
    """PNGs are in other people's ImageNet records."""
    pixels = smooth(20, 20)
    example = to_example(
        {"image/encoded": tf.io.encode_png(pixels).numpy(), "image/class/label": 1}
    )
    write_shards([example], str(tmp_path / "x"), 1)
    source = ImageStream(RecordFiles.find(str(tmp_path / "x-*"), "flag"), 20, 1, central_crop=1.0)
    source = dataclasses.replace(source, crop_area=(1.0, 1.0), flip=False)
    for [example] in (take(source.validation(), 1), training(source, 0, 0, 1)):
        np.testing.assert_allclose(example["images"], pixels / 255.0, atol=1e-6)


def test_the_manifest_tells_the_label_of_the_first_class(tmp_path):
    encoded = tf.io.encode_jpeg(smooth(8, 8)).numpy()
    example = to_example({"image/encoded": encoded, "image/class/label": 1})
    write_shards([example], str(tmp_path / "x"), 1, settings={"label_offset": 1})
    source = ImageStream(RecordFiles.find(str(tmp_path / "x-*"), "flag"), 8, CLASSES)
    source.check()
    with pytest.raises(UserError, match=r"x.manifest.json: .*data.images.label_offset=1"):
        dataclasses.replace(source, label_offset=0).check()


def test_randaugment_is_applied_by_the_number_of_the_example(open_images):
    images = [smooth(16, 16, seed) for seed in range(5)]
    source = open_images(images, range(5), image_size=16, crop_area=(1.0, 1.0), flip=False)
    augmented = dataclasses.replace(source, randaugment=(2, 9))
    plain, whole = training(source, 2, 0, 20), training(augmented, 2, 0, 20)
    different = 0
    for one, other in zip(plain, whole, strict=True):
        assert one["image_labels"] == other["image_labels"]
        different += np.abs(one["images"] - other["images"]).max() > 2 / 255
    assert different > 14
    for late, example in zip(training(augmented, 2, 7, 13), whole[7:], strict=True):
        np.testing.assert_array_equal(late["images"], example["images"])
    [validation] = take(augmented.validation(0, 1), 1)
    np.testing.assert_array_equal(validation["images"], take(source.validation(), 1)[0]["images"])


def test_images_are_mixed_in_pairs(open_images):
    images = [np.full((8, 8, 3), 50 * label, np.uint8) for label in range(CLASSES)]
    source = open_images(images, range(CLASSES))
    mixed = dataclasses.replace(source, mixup=0.8)
    [plain], [batch] = take(source.training(1, 0, 8), 1), take(mixed.training(1, 0, 8), 1)
    partners = np.arange(8) ^ 1
    values = plain["image_labels"].astype(float)
    weights = batch["image_mix_weights"]
    assert set(batch) == {"images", "image_labels", "image_mix_labels", "image_mix_weights"}
    first, second = batch["image_labels"], batch["image_mix_labels"]
    assert (np.sort([first, second], 0) == np.sort([values, values[partners]], 0)).all()
    expected = (weights * first + (1 - weights) * second) * 50 / 255
    np.testing.assert_allclose(batch["images"].mean((1, 2, 3)), expected, atol=0.01)
    assert (weights >= 0.5).all() and len(np.unique(weights)) >= 3
    # In shares of a batch the pairs are the same.
    halves = take(mixed.training(1, 0, 4), 2)
    for name, value in batch.items():
        np.testing.assert_array_equal(np.concatenate([h[name] for h in halves]), value)
