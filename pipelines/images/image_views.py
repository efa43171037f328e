"""Views of encoded images: batches of random crops for training, central ones for validation."""

import dataclasses

import tensorflow as tf

from pipelines.cores import available_cores
from pipelines.images import image_decoding, mixing
from pipelines.images.randaugment import RandAugment


@dataclasses.dataclass(frozen=True)
class ImageViews:
    """How images are cropped, augmented and mixed.

    Attributes:
        image_size: int, height and width of the resulting images, in pixels.
        crop_area: pair of floats, the fraction of the area that a random crop keeps.
        flip: bool, whether training mirrors half of the images.
        central_crop: float, the fraction of each side that validation keeps.
        randaugment: pair of ints, operations per image and their magnitude, see
            `randaugment.RandAugment`; no operations by default.
        mixup, cutmix: float, alpha of `mixing.mix`; 0 leaves it out.
        layers: sequence of dicts, what the training step itself does to the images; if any, batches
            hold the images' numbers, which key its random numbers.
    """

    image_size: int
    crop_area: tuple[float, float] = (0.08, 1.0)
    flip: bool = True
    central_crop: float = 0.875
    randaugment: tuple[int, int] = (0, 9)
    mixup: float = 0.0
    cutmix: float = 0.0
    layers: tuple[dict, ...] = ()

    @classmethod
    def from_config(cls, image_size, config):
        """The views that a config asks for.

        Args:
            image_size: int, in pixels.
            config: object with the other attributes, such as `keras_vitbert.configs.data.Views`.

        Returns:
            `ImageViews`.
        """
        names = [field.name for field in dataclasses.fields(cls) if field.name != "image_size"]
        return cls(image_size, **{name: getattr(config, name) for name in names})

    def training(self, store, seed, start, batch, shard):
        """Endless dataset of batches of random views.

        Args:
            store: `ImageRecordFiles`, or an object with its `elements`, `read` and `to_labels`.
            seed: int; with an element's number, it decides what is done to the element.
            start: int, the index of the first element, over all hosts.
            batch: int, images of a batch.
            shard: (number of hosts, index of this one).

        Returns:
            `tf.data.Dataset` of dicts: `images` `(batch, size, size, 3)` uint8, and `image_labels`
            `(batch,)` int32 from 0. If images are mixed, they are float32 in [0, 1], and there are
            also `image_mix_labels` and `image_mix_weights`, see `mixing.mix`. With `layers`, there
            are also `image_numbers` `(batch, 2)` int32, the low and the high word of each image's
            number in the stream.
        """
        operations, magnitude = self.randaugment
        randaugment = RandAugment(operations, magnitude) if operations else None

        def example(number, item):
            encoded, label = store.read(item)
            key = tf.stack([tf.cast(seed, tf.int64), number])
            image = image_decoding.random_crop(
                encoded, key, self.image_size, self.crop_area, self.flip
            )
            if randaugment is not None:
                image = randaugment(image, key)
            return {"images": image, "image_labels": label, "numbers": number}

        def finished(batch):
            numbers = batch.pop("numbers")
            batch["image_labels"] = store.to_labels(batch["image_labels"])
            if self.mixup or self.cutmix:
                images = image_decoding.to_floats(batch["images"])
                batch |= mixing.mix(
                    images, batch["image_labels"], numbers, seed, self.mixup, self.cutmix
                )
            if self.layers:
                batch["image_numbers"] = tf.bitcast(numbers, tf.int32)
            return batch

        stream = store.elements(seed, start, shard)
        stream = stream.map(example, available_cores(), deterministic=True)
        stream = stream.batch(batch, drop_remainder=True)
        return stream.map(finished, available_cores(), deterministic=True)

    def validation(self, store, begin=0, end=None):
        """Single central views, in the order of the store.

        Args:
            store: `ImageRecordFiles`, or an object with its `in_order`, `read` and `to_labels`.
            begin, end: int, indices of images; `end` is excluded, None for all that follow.

        Returns:
            `tf.data.Dataset` of dicts: `images` `(size, size, 3)` uint8 and `image_labels` int32.
        """

        def example(item):
            encoded, label = store.read(item)
            image = image_decoding.central_crop(encoded, self.image_size, self.central_crop)
            return {"images": image, "image_labels": store.to_labels(label)}

        return store.in_order(begin, end).map(example, available_cores(), deterministic=True)
