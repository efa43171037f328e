import numpy as np
import pytest
import tensorflow as tf

from pipelines.images.image_records import write_image_records
from pipelines.prepare.sample import read_mnist
from pipelines.shards.shard_manifest import read_manifest


@pytest.fixture(scope="module")
def mnist():
    return read_mnist()


def read(folder):
    """The examples in `folder`, in the order in which they were written."""
    paths = sorted(str(path) for path in folder.glob("*-of-*"))
    shards = [
        [tf.train.Example.FromString(r.numpy()) for r in tf.data.TFRecordDataset(path)]
        for path in paths
    ]
    return [
        shards[index % len(shards)][index // len(shards)].features.feature
        for index in range(sum(map(len, shards)))
    ]


def test_records_decode_to_the_images(tmp_path, mnist):
    images, labels = mnist[0][::100], mnist[1][::100]
    assert write_image_records(images, labels, str(tmp_path / "image"), 3) == 50
    assert len(list(tmp_path.glob("image-*-of-00003"))) == 3
    manifest = read_manifest(str(tmp_path / "image"))
    assert manifest["kind"] == "images" and manifest["settings"] == {"label_offset": 1}
    examples = read(tmp_path)
    for image, label, example in zip(images, labels, examples, strict=True):
        encoded = example["image/encoded"].bytes_list.value[0]
        assert encoded[:3] == b"\xff\xd8\xff"  # a JPEG
        decoded = tf.io.decode_jpeg(encoded).numpy().astype(int)
        assert decoded.shape == (28, 28, 3)
        assert abs(decoded - image[..., np.newaxis].astype(int)).mean() < 3
        assert example["image/class/label"].int64_list.value[:] == [label + 1]
        assert example["image/format"].bytes_list.value[:] == [b"JPEG"]
        assert example["image/colorspace"].bytes_list.value[:] == [b"RGB"]
        for name, value in (("height", 28), ("width", 28), ("channels", 3)):
            assert example[f"image/{name}"].int64_list.value[:] == [value]


def test_colour_images_of_any_size_and_labels_from_zero(tmp_path):
    ramp = np.linspace(0, 255, 40).astype(np.uint8)
    wide = np.stack(np.broadcast_arrays(ramp[np.newaxis], ramp[:20, np.newaxis], 100), -1)
    tall = wide.transpose(1, 0, 2)
    write_image_records(iter([wide, tall]), [0, 9], str(tmp_path / "image"), 1, label_offset=0)
    first, second = read(tmp_path)
    for example, image, label in ((first, wide, 0), (second, tall, 9)):
        decoded = tf.io.decode_jpeg(example["image/encoded"].bytes_list.value[0]).numpy()
        assert decoded.shape == image.shape
        assert abs(decoded.astype(int) - image.astype(int)).mean() < 4
        assert example["image/height"].int64_list.value[:] == [image.shape[0]]
        assert example["image/width"].int64_list.value[:] == [image.shape[1]]
        assert example["image/class/label"].int64_list.value[:] == [label]


def test_as_many_labels_as_images(tmp_path, mnist):
    with pytest.raises(ValueError):
        write_image_records(mnist[0][:3], [1, 2], str(tmp_path / "image"), 1)
    assert not list(tmp_path.iterdir())
