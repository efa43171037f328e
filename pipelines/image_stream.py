"""Reads images in the ImageNet TFRecord format, augmented for training or plain for validation."""

import dataclasses

from pipelines.command_line import UserError
from pipelines.images.image_views import ImageViews
from pipelines.shards.records import BadRecord, RecordFiles
from pipelines.shards.shuffled_records import ShuffledRecords

ENCODED, LABEL = "image/encoded", "image/class/label"


@dataclasses.dataclass(frozen=True)
class ImageStream:
    """Labelled images in TFRecord files.

    Attributes:
        records: `RecordFiles` with `image/encoded` (JPEG, or what `tf.io.decode_image` reads) and
            `image/class/label`.
        image_size: int, height and width of the images that come out, in pixels.
        num_classes: int.
        label_offset: int, the label of the first class in the files: 1 in ImageNet's, where 0 is
            background.
        crop_area: pair of floats, the fraction of the area that a random crop keeps.
        flip: bool, whether training mirrors half of the images.
        central_crop: float, the fraction of each side that validation keeps.
        randaugment: pair of ints, operations an image and their magnitude, see
            `randaugment.RandAugment`; no operations by default.
        mixup, cutmix: float, alpha of `mixing.mix`; 0 leaves it out.
        cache: bool, whether the records are kept in memory once they are read.
    """

    records: RecordFiles
    image_size: int
    num_classes: int
    label_offset: int = 1
    crop_area: tuple[float, float] = (0.08, 1.0)
    flip: bool = True
    central_crop: float = 0.875
    randaugment: tuple[int, int] = (0, 9)
    mixup: float = 0.0
    cutmix: float = 0.0
    cache: bool = False

    @property
    def views(self):
        """How the images are cut, augmented and mixed."""
        return ImageViews(
            self.image_size,
            self.crop_area,
            self.flip,
            self.central_crop,
            self.randaugment,
            self.mixup,
            self.cutmix,
        )

    def check(self):
        """Looks at the manifest and the first record.

        Raises:
            UserError: the manifest says another label offset.
            BadRecord: a field is missing or the label is out of range.
        """
        for path, manifest in self.records.manifests.items():
            offset = manifest["settings"].get("label_offset", self.label_offset)
            if offset != self.label_offset:
                raise UserError(
                    f"{path}: the label of the first class is {offset}; set "
                    f"--config.data.images.label_offset={offset}"
                )
        features = self.records.first_example().features.feature
        for name, kind in ((ENCODED, "bytes"), (LABEL, "int64")):
            if name not in features or len(getattr(features[name], f"{kind}_list").value) != 1:
                raise BadRecord(
                    self.records.files[0],
                    f"its records have no field {name!r} with one {kind} value but "
                    f"{sorted(features)}",
                    "give ImageNet-format TFRecords",
                )
        label = features[LABEL].int64_list.value[0] - self.label_offset
        if not 0 <= label < self.num_classes:
            raise BadRecord(
                self.records.files[0],
                f"label {label + self.label_offset} is not in "
                f"{self.label_offset}..{self.label_offset + self.num_classes - 1}",
                "mend --config.model.num_classes or --config.data.images.label_offset",
            )
        return self

    def training(self, seed, start, batch, shard=(1, 0)):
        """Endless dataset of batches.

        Args:
            seed: int.
            start: int, the number of the first element, over all hosts.
            batch: int, images of a batch.
            shard: (number of hosts, index of this one).

        Returns:
            `tf.data.Dataset` of dicts, see `image_views.ImageViews.training`.
        """
        stream = ShuffledRecords(self.records, seed, shard, self.cache).elements(start)
        return self.views.training(stream, self._parse, seed, batch, self._labels)

    def validation(self, begin=0, end=None):
        """Dataset of `images` and `image_labels` `begin` to `end`, in the order of the files."""
        stream = self.records.in_order(begin, end)
        return self.views.validation(stream, self._parse, self._labels)

    def probes(self):
        """Dataset with an element for each record, whose reading fails if it cannot be used."""
        import tensorflow as tf

        def decoded(serialized):
            encoded, label = self._parse(serialized)
            whole = tf.io.decode_image(encoded, channels=3, expand_animations=False)
            return tf.size(whole) + tf.size(self.views.central(encoded)), self._labels(label)

        return self.records.in_order().map(decoded, tf.data.AUTOTUNE, deterministic=True)

    def labels(self):
        """Dataset of the labels alone, from 0, in the order of the files."""

        def label(serialized):
            _, stored = self._parse(serialized)
            return self._labels(stored)

        return self.records.in_order().map(label)

    def _parse(self, serialized):
        """(encoded image, stored label) of a record."""
        import tensorflow as tf

        features = tf.io.parse_single_example(
            serialized,
            {
                ENCODED: tf.io.FixedLenFeature((), tf.string),
                LABEL: tf.io.FixedLenFeature((), tf.int64),
            },
        )
        return features[ENCODED], features[LABEL]

    def _labels(self, stored):
        """Labels from 0; fails if one of them is out of range, and shows the one farthest out."""
        import tensorflow as tf

        labels = tf.cast(stored, tf.int32) - self.label_offset
        least, largest = tf.reduce_min(labels), tf.reduce_max(labels)
        shown = tf.where(least < 0, least, largest)
        in_range = (shown >= 0) & (shown < self.num_classes)
        message = f"{self.records.pattern}: an image label is out of range (of the stored labels)"
        shown += self.label_offset
        with tf.control_dependencies([tf.debugging.Assert(in_range, [message, shown])]):
            return tf.identity(labels)
