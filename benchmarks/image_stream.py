"""Times the image stream against bare decoding, KerasCV and torchvision, in turns.

    python -m benchmarks.image_stream [--images=512] [--batches=32] [--rounds=7] [--torchvision]

All read the same JPEGs of 500 x 375 pixels and some 100 kB (different crops of the photographs
china.jpg and flower.jpg in scikit-learn), and make batches of 64 at 224 pixels:

    bare       TFRecordDataset, decode_and_crop_jpeg, resize, flip: float32 in 0 to 255, no more
    plain      ImageStream.training: bytes, which the device turns into floats
    augmented  the same with RandAugment: 2 operations, magnitude 9
    keras_cv   bare and keras_cv.layers.RandAugment
    torch      torchvision's DataLoader with as many workers as cores: RandomResizedCrop, flip,
               RandAugment(2, 9); with --torchvision

The ceiling is bare decoding, resize and flip.
"""

import io
import itertools
import os
import statistics
import tempfile
import time

from benchmarks.speed_table import Row, command, interleaved
from pipelines.cores import available_cores

SIZE, BATCH, WARM_BATCHES = 224, 64, 6


def rows(images=512, batches=32, rounds=7, torchvision=False) -> list[Row]:
    """Times batches of all streams, in images a second."""
    with tempfile.TemporaryDirectory() as folder:
        streams = _streams(write_images(folder, images))
        if torchvision:
            streams["torch"] = _torch_batches(folder, batches)
        sides = {name: _rate(stream, batches) for name, stream in streams.items()}
        found = interleaved(sides, rounds, warm=0)
    ceiling = statistics.median(found["bare"])
    named = {"keras_cv": "KerasCV's layer", "torch": "torchvision's DataLoader"}
    pairs = [("augmented", name, f"with RandAugment, against {named[name]}") for name in named]
    pairs += [("plain", "bare", "cropped and flipped, against bare decoding")]
    return [
        Row.compared(f"images {what}", found[name], found[peer], "images/s", ceiling=ceiling)
        for name, peer, what in pairs
        if peer in found
    ]


def _rate(stream, batches):
    """A side that reads some batches after the first ones, in images a second."""

    def rate():
        iterator = iter(stream)
        for _ in range(WARM_BATCHES):
            next(iterator)
        began = time.perf_counter()
        for _ in range(batches):
            next(iterator)
        return batches * BATCH / (time.perf_counter() - began)

    return rate


def write_images(folder: str, count: int) -> str:
    """Writes JPEGs to files and as records; returns the pattern of the records."""
    import numpy as np
    from PIL import Image

    from pipelines.package_data import find_package_file
    from pipelines.shards.shard_files import to_example, write_shards

    paths = [f"datasets/images/{name}.jpg" for name in ("china", "flower")]
    photographs = [Image.open(find_package_file("sklearn", path)) for path in paths]
    random, encoded = np.random.default_rng(0), []
    for photograph in itertools.islice(itertools.cycle(photographs), count):
        width = random.uniform(0.7, 0.85) * photograph.width
        height = width * 3 / 4
        left = random.uniform(0, photograph.width - width)
        top = random.uniform(0, photograph.height - height)
        box, buffer = (left, top, left + width, top + height), io.BytesIO()
        image = photograph.resize((500, 375), Image.Resampling.BICUBIC, box)
        image.save(buffer, "JPEG", quality=98)
        encoded.append(buffer.getvalue())
    for number, image in enumerate(encoded):
        with open(os.path.join(folder, f"{number:05d}.jpg"), "wb") as file:
            file.write(image)
    examples = (
        to_example({"image/encoded": image, "image/class/label": 1 + number % 1000})
        for number, image in enumerate(encoded)
    )
    write_shards(examples, os.path.join(folder, "images"), 4)
    return os.path.join(folder, "images-*")


def _streams(pattern):
    """The datasets of the sides in TensorFlow."""
    import keras_cv
    import tensorflow as tf

    from pipelines.images.image_records import ImageStream
    from pipelines.images.image_views import ImageViews
    from pipelines.shards.records import RecordFiles

    records = RecordFiles.find(pattern)
    plain = ImageStream(records, 1000, views=ImageViews(SIZE))
    augmented = ImageStream(records, 1000, views=ImageViews(SIZE, randaugment=(2, 9)))
    layer = keras_cv.layers.RandAugment((0, 255), 2, magnitude=9 / 30)

    def by_keras_cv(batch):
        return {**batch, "images": layer(batch["images"], training=True)}

    return {
        "bare": _bare(pattern).prefetch(2),
        "plain": plain.training(0, 0, BATCH).prefetch(2),
        "augmented": augmented.training(0, 0, BATCH).prefetch(2),
        "keras_cv": _bare(pattern).map(by_keras_cv, tf.data.AUTOTUNE).prefetch(2),
    }


def _bare(pattern):
    """A minimal training stream, written by hand."""
    import tensorflow as tf

    kinds = {
        "image/encoded": tf.io.FixedLenFeature((), tf.string),
        "image/class/label": tf.io.FixedLenFeature((), tf.int64),
    }

    def example(number, serialized):
        features = tf.io.parse_single_example(serialized, kinds)
        key = tf.stack([tf.constant(0, tf.int64), number])
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(features["image/encoded"]),
            tf.zeros((1, 0, 4)),
            key,
            area_range=(0.08, 1.0),
            aspect_ratio_range=(3 / 4, 4 / 3),
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.concat([begin[:2], size[:2]], 0)
        image = tf.io.decode_and_crop_jpeg(features["image/encoded"], window, channels=3)
        image = tf.image.resize(image, (SIZE, SIZE))
        image = tf.image.stateless_random_flip_left_right(image, key)
        return {"images": image, "image_labels": features["image/class/label"]}

    stream = tf.data.TFRecordDataset(sorted(tf.io.gfile.glob(pattern))).repeat().enumerate()
    stream = stream.map(example, tf.data.AUTOTUNE, deterministic=True)
    return stream.batch(BATCH, drop_remainder=True)


def _torch_batches(folder, batches):
    """torchvision's loader; its workers begin with each iteration, as with TensorFlow's threads."""
    import torch
    import torchvision.transforms.v2 as transforms

    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE),
            transforms.RandomHorizontalFlip(),
            transforms.RandAugment(num_ops=2, magnitude=9),
            transforms.ToImage(),
            transforms.ToDtype(torch.float32, scale=True),
        ]
    )
    return torch.utils.data.DataLoader(
        JpegFolder(folder, transform, (batches + WARM_BATCHES) * BATCH),
        BATCH,
        shuffle=True,
        num_workers=available_cores(),
        drop_last=True,
        multiprocessing_context="spawn",  # a fork would copy TensorFlow's locks
    )


class JpegFolder:
    """The JPEGs of a folder, repeated to a number of examples, for torch's loader."""

    def __init__(self, folder, transform, count):
        names = sorted(name for name in os.listdir(folder) if name.endswith(".jpg"))
        self.files = [os.path.join(folder, name) for name in names]
        self.transform, self.count = transform, count

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        from PIL import Image

        with Image.open(self.files[number % len(self.files)]) as image:
            return self.transform(image.convert("RGB")), number


def main() -> None:
    """Runs the benchmark."""
    command(__doc__, rows)


if __name__ == "__main__":
    main()
