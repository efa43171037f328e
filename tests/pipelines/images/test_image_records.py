import numpy as np
import tensorflow as tf

from pipelines.images.image_records import write_image_records
from pipelines.shards.shard_manifest import read_manifest


def test_grey_and_colour_images_of_any_size_are_written(tmp_path):
    ramp = np.linspace(0, 255, 40).astype(np.uint8)
    wide = np.stack(np.broadcast_arrays(ramp[np.newaxis], ramp[:20, np.newaxis], 100), -1)
    images = [wide, wide.transpose(1, 0, 2), wide[..., 0]]
    prefix = str(tmp_path / "image")
    assert write_image_records(iter(images), [0, 9, 4], prefix, 2, label_offset=1) == 3
    assert read_manifest(prefix)["settings"] == {"label_offset": 1}
    files = sorted(map(str, tmp_path.glob("*-of-*")))
    records = [record.numpy() for record in tf.data.TFRecordDataset(files)]
    for image, label, record in zip(
        images, [0, 9, 4], [records[n] for n in (0, 2, 1)], strict=True
    ):
        fields = tf.train.Example.FromString(record).features.feature
        [encoded] = fields["image/encoded"].bytes_list.value
        decoded = tf.io.decode_jpeg(encoded).numpy().astype(int)
        expected = image if image.ndim == 3 else np.repeat(image[..., np.newaxis], 3, -1)
        assert decoded.shape == expected.shape and abs(decoded - expected).mean() < 4
        for name, value in (("height", len(image)), ("width", image.shape[1]), ("channels", 3)):
            assert fields[f"image/{name}"].int64_list.value[:] == [value]
        assert fields["image/class/label"].int64_list.value[:] == [label + 1]
        assert fields["image/colorspace"].bytes_list.value[:] == [b"RGB"]
