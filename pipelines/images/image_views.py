"""Views of encoded images: batches of random crops for training, central ones for validation."""

import dataclasses

import tensorflow as tf

from pipelines.cores import available_cores
from pipelines.images.image_decoding import (
    BOX_CENTER,
    FIRST_GAMMA,
    MIX_SWITCH,
    SECOND_GAMMA,
    central_crop,
    derived_key,
    random_crop,
    to_floats,
)
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
        mixup, cutmix: float, alpha of `mix`; 0 leaves it out.
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
    augmentations: tuple[dict, ...] = ()

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
            also `image_mix_labels` and `image_mix_weights`, see `mix`. With `layers`, there
            are also `image_numbers` `(batch, 2)` int32, the low and the high word of each image's
            number in the stream.
        """
        operations, magnitude = self.randaugment
        randaugment = RandAugment(self.image_size, operations, magnitude) if operations else None

        def example(number, item):
            encoded, label = store.read(item)
            key = tf.stack([tf.cast(seed, tf.int64), number])
            image = random_crop(encoded, key, self.image_size, self.crop_area, self.flip)
            if randaugment is not None:
                image = randaugment(image, key)
            return {"images": image, "image_labels": label, "numbers": number}

        def finished(batch):
            numbers = batch.pop("numbers")
            batch["image_labels"] = store.to_labels(batch["image_labels"])
            if self.mixup or self.cutmix:
                images = to_floats(batch["images"])
                batch |= mix(images, batch["image_labels"], numbers, seed, self.mixup, self.cutmix)
            if self.augmentations:
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
            image = central_crop(encoded, self.image_size, self.central_crop)
            return {"images": image, "image_labels": store.to_labels(label)}

        return store.in_order(begin, end).map(example, available_cores(), deterministic=True)


def mix(images, labels, numbers, seed, mixup_alpha, cutmix_alpha):
    """Mixes the neighbours of a batch: the first with the second, the third with the fourth, ...

    MixUp (Zhang et al. 2018) averages the two images. CutMix (Yun et al. 2019) puts a box of each
    into the other. With both, every pair gets either with probability 1/2. The share of a pair is
    drawn from Beta(alpha, alpha), keyed by `seed` and the number of its first example alone, so
    splitting a batch between pairs changes nothing.

    Args:
        images: float32 tensor `(batch, size, size, 3)`; the batch must be even.
        labels: int32 tensor `(batch,)`.
        numbers: int64 tensor `(batch,)`, the examples' numbers in the stream.
        seed: int.
        mixup_alpha: float, 0 for no MixUp.
        cutmix_alpha: float, 0 for no CutMix; one of the two is above 0.

    Returns:
        Dict of `images`; `image_labels`, as given; `image_mix_labels`, those of the partners; and
        `image_mix_weights` `(batch,)` float32, the share of the image's own label, 0.5 to 1.
        Partners have the same weight. For CutMix it is the area that is kept.
    """
    height, width = images.shape[1:3]

    def mixed_pair(arguments):
        pair, number = arguments
        key = tf.stack([tf.cast(seed, tf.int64), number])
        one, other = tf.unstack(tf.reshape(pair, (2, height, width * 3)))
        difference = one - other

        def by_mixup():
            share = _share(key, mixup_alpha)
            share = tf.maximum(share, 1 - share)
            return difference * (1 - share), share

        def by_cutmix():
            top, bottom, left, right = _box(key, _share(key, cutmix_alpha), height, width)
            rows = tf.cast((tf.range(height) >= top) & (tf.range(height) < bottom), tf.float32)
            places = tf.range(width * 3) // 3
            columns = tf.cast((places >= left) & (places < right), tf.float32)
            area = tf.cast((bottom - top) * (right - left), tf.float32) / (height * width)
            # Partners swap the box or, if it is more than half of the area, what is around it.
            around = tf.cast(area > 0.5, tf.float32)
            swapped = tf.abs(around - rows[:, None] * columns)
            return difference * swapped, tf.maximum(area, 1 - area)

        if not cutmix_alpha:
            moved, share = by_mixup()
        elif not mixup_alpha:
            moved, share = by_cutmix()
        else:
            choice = tf.random.stateless_uniform((), derived_key(key, MIX_SWITCH))
            moved, share = tf.cond(choice < 0.5, by_mixup, by_cutmix)
        return tf.reshape(tf.stack([one - moved, other + moved]), (2, height, width, 3)), share

    pairs = tf.reshape(images, (-1, 2, height, width, 3))
    mixed, shares = tf.map_fn(
        mixed_pair,
        (pairs, numbers[::2]),
        fn_output_signature=(
            tf.TensorSpec((2, height, width, 3), tf.float32),
            tf.TensorSpec((), tf.float32),
        ),
    )
    return {
        "images": tf.reshape(mixed, tf.shape(images)),
        "image_labels": labels,
        "image_mix_labels": tf.reshape(tf.reverse(tf.reshape(labels, (-1, 2)), [1]), (-1,)),
        "image_mix_weights": tf.repeat(shares, 2),
    }


def _share(key, alpha):
    """A sample of Beta(alpha, alpha)."""
    first, second = (
        tf.random.stateless_gamma((), derived_key(key, name), alpha)
        for name in (FIRST_GAMMA, SECOND_GAMMA)
    )
    # If alpha is tiny, both may be the smallest float, although one should be nearly everything.
    return tf.where(first == second, 1.0, first / (first + second))


def _box(key, share, height, width):
    """A box of `1 - share` of the area around a random pixel, clipped at the edges.

    Returns:
        int32 tensors: top, bottom, left, right.
    """
    center = tf.random.stateless_uniform((2,), derived_key(key, BOX_CENTER))
    edges = []
    for middle, side in zip(tf.unstack(center), (height, width), strict=True):
        half = tf.sqrt(1 - share) * side / 2
        low, high = middle * side - half, middle * side + half
        edges += [tf.clip_by_value(tf.cast(tf.round(e), tf.int32), 0, side) for e in (low, high)]
    return edges
