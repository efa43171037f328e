"""Reads images in the ImageNet TFRecord format, augmented for training or plain for validation."""

import dataclasses

from keras_vitbert.command_line import UserError
from pipelines.records import RecordFiles

ENCODED, LABEL = "image/encoded", "image/class/label"


@dataclasses.dataclass(frozen=True)
class ImageRecords:
    """Labelled images in TFRecord files.

    Attributes:
        records: `RecordFiles` with `image/encoded` (JPEG, or what `tf.io.decode_jpeg` reads) and
            `image/class/label`.
        image_size: int, height and width of the images that come out, in pixels.
        num_classes: int.
        label_offset: int, the label of the first class in the files: 1 in ImageNet's, where 0 is
            background.
        crop_area: pair of floats, the fraction of the area that a random crop keeps.
        flip: bool, whether training mirrors half of the images.
        central_crop: float, the fraction of each side that validation keeps.
    """

    records: RecordFiles
    image_size: int
    num_classes: int
    label_offset: int = 1
    crop_area: tuple = (0.08, 1.0)
    flip: bool = True
    central_crop: float = 0.875

    def check(self):
        """Looks at the first record.

        Raises:
            UserError: a field is missing or the label is out of range.
        """
        features = self.records.first_example().features.feature
        for name, kind in ((ENCODED, "bytes"), (LABEL, "int64")):
            if name not in features or len(getattr(features[name], f"{kind}_list").value) != 1:
                raise UserError(
                    f"{self.records.files[0]}: its records have no field {name!r} with one {kind} "
                    f"value but {sorted(features)}; give ImageNet-format TFRecords"
                )
        label = features[LABEL].int64_list.value[0] - self.label_offset
        if not 0 <= label < self.num_classes:
            raise UserError(
                f"{self.records.files[0]}: label {label + self.label_offset} is not in "
                f"{self.label_offset}..{self.label_offset + self.num_classes - 1}; mend "
                "--config.model.num_classes or --config.data.images.label_offset"
            )
        return self

    def training(self, seed, start, shard=(1, 0)):
        """Endless dataset of `images` and `image_labels`.

        Args:
            seed: int.
            start: int, the number of the first element.
            shard: (number of shards, index), to decode every n-th element only.
        """
        import tensorflow as tf

        def example(number, serialized):
            encoded, label = self._parse(serialized)
            key = tf.stack([tf.cast(seed, tf.int64), number])
            return {"images": self._augmented(encoded, key), "image_labels": label}

        stream = self.records.endless(seed, start).shard(*shard)
        return stream.map(example, tf.data.AUTOTUNE, deterministic=True)

    def validation(self, shard=(1, 0)):
        """Dataset of `images` and `image_labels`, each once, in the order of the files."""
        import tensorflow as tf

        def example(serialized):
            encoded, label = self._parse(serialized)
            return {"images": self._plain(encoded), "image_labels": label}

        stream = self.records.in_order().shard(*shard)
        return stream.map(example, tf.data.AUTOTUNE, deterministic=True)

    def examples(self):
        """Dataset of every record once, decoded, in the order of the files: to find a bad one."""
        return self.validation()

    def labels(self):
        """Dataset of the labels alone, from 0, in the order of the files."""
        return self.records.in_order().map(lambda serialized: self._parse(serialized)[1])

    def _parse(self, serialized):
        import tensorflow as tf

        features = tf.io.parse_single_example(
            serialized,
            {
                ENCODED: tf.io.FixedLenFeature((), tf.string),
                LABEL: tf.io.FixedLenFeature((), tf.int64),
            },
        )
        label = tf.cast(features[LABEL], tf.int32) - self.label_offset
        in_range = (label >= 0) & (label < self.num_classes)
        message = f"{self.records.pattern}: an image label is out of range (of the stored labels)"
        with tf.control_dependencies([tf.debugging.Assert(in_range, [message, features[LABEL]])]):
            return features[ENCODED], tf.identity(label)

    def _augmented(self, encoded, key):
        """A random crop of `crop_area`, resized and perhaps mirrored, by stateless numbers."""
        import tensorflow as tf

        keys = tf.random.split(key, 2)
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(encoded),
            tf.zeros((1, 0, 4)),
            keys[0],
            area_range=self.crop_area,
            aspect_ratio_range=(3 / 4, 4 / 3),
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        image = self._cropped(encoded, begin[0], begin[1], size[0], size[1])
        if self.flip:
            mirror = tf.random.stateless_uniform((), keys[1]) < 0.5
            image = tf.where(mirror, image[:, ::-1], image)
        return image

    def _plain(self, encoded):
        """The central square, resized."""
        import tensorflow as tf

        shape = tf.io.extract_jpeg_shape(encoded)
        side = tf.cast(tf.reduce_min(shape[:2]), tf.float32) * self.central_crop
        side = tf.maximum(tf.cast(tf.round(side), tf.int32), 1)
        return self._cropped(encoded, (shape[0] - side) // 2, (shape[1] - side) // 2, side, side)

    def _cropped(self, encoded, top, left, height, width):
        """Decodes only the window, and resizes it to floats in [0, 1]."""
        import tensorflow as tf

        window = tf.stack([top, left, height, width])
        # The default is a coarser transform: up to 7 of 255 off, darker on average, and no faster.
        image = tf.io.decode_and_crop_jpeg(
            encoded, window, channels=3, dct_method="INTEGER_ACCURATE"
        )
        image = tf.image.resize(image, (self.image_size, self.image_size), antialias=True)
        return tf.ensure_shape(image / 255.0, (self.image_size, self.image_size, 3))
