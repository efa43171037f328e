import numpy as np
import tensorflow as tf

from pipelines.images.image_records import write_image_records
from pipelines.shards.shard_manifest import read_manifest
from tests.pipelines.image_fixtures import read_records


def test_grey_and_colour_images_of_any_size_are_written(tmp_path):
    ramp = np.linspace(0, 255, 40).astype(np.uint8)
    wide = np.stack(np.broadcast_arrays(ramp[np.newaxis], ramp[:20, np.newaxis], 100), -1)
    images = [wide, wide.transpose(1, 0, 2), wide[..., 0]]
    prefix = str(tmp_path / "image")
    assert write_image_records(iter(images), [0, 9, 4], prefix, 2, label_offset=1) == 3
    assert read_manifest(prefix)["settings"] == {"label_offset": 1}
    first, third, second = read_records(f"{prefix}-*-of-*")
    for image, label, record in zip(images, [0, 9, 4], [first, second, third], strict=True):
        decoded = tf.io.decode_jpeg(record["encoded"]).numpy().astype(int)
        expected = image if image.ndim == 3 else np.repeat(image[..., np.newaxis], 3, -1)
        assert decoded.shape == expected.shape and abs(decoded - expected).mean() < 4
        assert (record["height"], record["width"], record["channels"]) == expected.shape
        assert record["class/label"] == label + 1 and record["colorspace"] == b"RGB"
