"""Reads images in the ImageNet TFRecord format, augmented for training or plain for validation."""

import dataclasses

from pipelines.images.image_records import ImageRecordFiles
from pipelines.images.image_views import ImageViews
from pipelines.shards.records import BadRecord


@dataclasses.dataclass(frozen=True, eq=False)
class ImageStream(ImageRecordFiles):
    """Labelled images in TFRecord files, and the views taken of them.

    Attributes:
        records, num_classes, encoded, label, label_offset, cache: see `ImageRecordFiles`.
        views: `ImageViews`, how the images are cropped, augmented and mixed.
    """

    views: ImageViews = dataclasses.field(kw_only=True)

    def check(self):
        """Checks the manifest and the first record.

        Returns:
            The stream itself.

        Raises:
            ValueError: the manifest gives another label offset.
            BadRecord: a field is missing or the label is out of range.
        """
        for path, manifest in self.records.manifests.items():
            offset = manifest["settings"].get("label_offset", self.label_offset)
            if offset != self.label_offset:
                raise ValueError(
                    f"{path}: the label of the first class is {offset}, data.images.label_offset "
                    f"is {self.label_offset}"
                )
        features = self.records.first_example().features.feature
        for name, kind in ((self.encoded, "bytes"), (self.label, "int64")):
            if name not in features or len(getattr(features[name], f"{kind}_list").value) != 1:
                raise BadRecord(
                    self.records.files[0],
                    f"its records have no field {name!r} with one {kind} value but "
                    f"{sorted(features)}",
                )
        label = features[self.label].int64_list.value[0]
        last = self.label_offset + self.num_classes - 1
        if not self.label_offset <= label <= last:
            raise BadRecord(
                self.records.files[0],
                f"label {label} is not in {self.label_offset}..{last}, see model.num_classes and "
                "data.images.label_offset",
            )
        return self

    def training(self, seed, start, batch, shard=(1, 0)):
        """Endless dataset of batches.

        Args:
            seed: int.
            start: int, the index of the first element, over all hosts.
            batch: int, images of a batch.
            shard: (number of hosts, index of this one).

        Returns:
            `tf.data.Dataset` of dicts, see `image_views.ImageViews.training`.
        """
        return self.views.training(self, seed, start, batch, shard)

    def validation(self, begin=0, end=None):
        """Dataset of the central views of single images, in the order of the files.

        Args:
            begin, end: int, indices of images; `end` is excluded, None for all that follow.

        Returns:
            `tf.data.Dataset` of dicts, see `image_views.ImageViews.validation`.
        """
        return self.views.validation(self, begin, end)

    def labels(self):
        """Dataset of the labels alone, from 0, in the order of the files."""
        return self.in_order().map(lambda serialized: self.to_labels(self.read(serialized)[1]))
