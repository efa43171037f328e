"""Times the image stream against bare decoding and against torchvision, in turns.

    python -m benchmarks.image_stream [--torch_python=PATH] [--keras_cv] [--rounds=7]

The contenders read the same JPEGs of 500 x 375 pixels and some 100 kB: different crops of the
photographs china.jpg and flower.jpg in scikit-learn. All make batches at 224 pixels:

    bare       TFRecordDataset, decode_and_crop_jpeg, resize, flip: float32 in 0 to 255, no more
    plain      ImageStream.training: bytes, which the device turns into floats
    augmented  the same with RandAugment: 2 operations, magnitude 9
    keras_cv   bare and keras_cv.layers.RandAugment; with --keras_cv
    torch      torchvision's DataLoader with as many workers as cores: RandomResizedCrop, flip,
               RandAugment(2, 9); with --torch_python, a Python that has torchvision

Each round runs all of them once. It prints images a second, the median of the ratios over the
rounds, and the same for processor time, which other work on the machine disturbs less.
"""

import argparse
import contextlib
import io
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time

from pipelines.cores import available_cores

SIZE, BATCH, WARM_BATCHES = 224, 64, 6
CORES = available_cores()


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--torch_python", help="a Python with torchvision, for that contender")
    parser.add_argument("--keras_cv", action="store_true", help="time keras_cv's layer as well")
    parser.add_argument("--images", type=int, default=512, help="how many JPEGs")
    parser.add_argument("--batches", type=int, default=32, help="timed batches of 64 a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--torch_side", help=argparse.SUPPRESS)  # the folder, in the subprocess
    arguments = parser.parse_args()
    if arguments.torch_side:
        serve_torch(arguments.torch_side)
        return
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        pattern = write_images(folder, arguments.images)
        contenders = {name: timer(dataset) for name, dataset in streams(pattern).items()}
        if arguments.keras_cv:
            contenders["keras_cv"] = timer(with_keras_cv(bare(pattern)))
        if arguments.torch_python:
            contenders["torch"] = stack.enter_context(torch_timer(arguments.torch_python, folder))
        else:
            print("no --torch_python: torchvision is not measured")
        compare(contenders, arguments.rounds, arguments.batches)


def compare(contenders, rounds, batches):
    """Times all contenders in turn, round after round, and prints the ratios."""
    pairs = [(name, "bare") for name in contenders if name != "bare"]
    pairs += [("augmented", name) for name in ("torch", "keras_cv") if name in contenders]
    wall, processor = in_turns(contenders, rounds, batches)
    for kind, rates in (("images a second", wall), ("per second of processor time", processor)):
        medians = (f"{name} {statistics.median(values):,.0f}" for name, values in rates.items())
        print(f"{kind}, medians of {rounds} rounds:", *medians)
        for name, base in pairs:
            ratios = ratios_of(rates, name, base)
            print(
                f"  {name} / {base}: median of ratios {statistics.median(ratios):.3f} "
                f"({ratios[0]:.3f} to {ratios[-1]:.3f})"
            )


def in_turns(contenders, rounds, batches):
    """Times all contenders in turn, round after round.

    Args:
        contenders: dict of a name to a function of a number of batches that returns seconds and
            seconds of processor time.
        rounds, batches: int.

    Returns:
        (dict of a name to images a second in each round, the same for processor time).
    """
    wall, processor = ({name: [] for name in contenders} for _ in range(2))
    for number in range(rounds):
        names = list(contenders)
        for name in names if number % 2 else names[::-1]:
            seconds, busy = contenders[name](batches)
            wall[name].append(batches * BATCH / seconds)
            processor[name].append(batches * BATCH / busy)
        print(f"round {number + 1}:", *(f"{name} {wall[name][-1]:,.0f}" for name in names))
    return wall, processor


def ratios_of(rates, name, base):
    """The ratios of two contenders' rates, sorted."""
    return sorted(a / b for a, b in zip(rates[name], rates[base], strict=True))


def rows(images, batches, rounds):
    """The row of `python -m benchmarks`, against KerasCV: list of one `Row`.

    Args:
        images, batches, rounds: int, see the flags.
    """
    from benchmarks.speed_table import Row

    with tempfile.TemporaryDirectory() as folder:
        pattern = write_images(folder, images)
        datasets = {**streams(pattern), "keras_cv": with_keras_cv(bare(pattern))}
        contenders = {name: timer(dataset) for name, dataset in datasets.items()}
        rates, _ = in_turns(contenders, rounds, batches)
    ratios = ratios_of(rates, "augmented", "keras_cv")
    return [
        Row(
            f"images with RandAugment, {SIZE} pixels, against KerasCV's layer",
            statistics.median(rates["augmented"]),
            "images/s",
            peer=statistics.median(rates["keras_cv"]),
            ratio=statistics.median(ratios),
            ceiling=statistics.median(rates["bare"]),
            note=f"{rounds} ratios from {ratios[0]:.2f} to {ratios[-1]:.2f}; the ceiling is bare "
            "decoding, resize and flip",
        )
    ]


def write_images(folder, count):
    """Writes JPEGs to files and as records; returns the pattern of the records."""
    import numpy as np
    from PIL import Image

    from pipelines.package_data import find_package_file
    from pipelines.shards.tfrecords import to_example, write_shards

    names = ("china", "flower")
    photographs = [
        Image.open(find_package_file("sklearn", f"datasets/images/{name}.jpg")) for name in names
    ]
    random, encoded = np.random.default_rng(0), []
    for photograph in itertools.islice(itertools.cycle(photographs), count):
        width = random.uniform(0.7, 0.85) * photograph.width
        height = width * 3 / 4
        left = random.uniform(0, photograph.width - width)
        top = random.uniform(0, photograph.height - height)
        box = (left, top, left + width, top + height)
        buffer = io.BytesIO()
        photograph.resize((500, 375), Image.Resampling.BICUBIC, box).save(
            buffer, "JPEG", quality=98
        )
        encoded.append(buffer.getvalue())
    assert len(set(encoded)) == count
    for number, image in enumerate(encoded):
        with open(os.path.join(folder, f"{number:05d}.jpg"), "wb") as file:
            file.write(image)
    examples = (
        to_example({"image/encoded": image, "image/class/label": 1 + number % 1000})
        for number, image in enumerate(encoded)
    )
    write_shards(examples, os.path.join(folder, "images"), 4)
    mean = sum(map(len, encoded)) / count / 1000
    print(f"{count} JPEGs of 500 x 375 pixels, {mean:.0f} kB on average; {CORES} cores")
    return os.path.join(folder, "images-*")


def streams(pattern):
    """The datasets of the contenders in TensorFlow."""
    from pipelines.image_stream import ImageStream
    from pipelines.images.image_views import ImageViews
    from pipelines.shards.records import RecordFiles

    records = RecordFiles.find(pattern)
    plain = ImageStream(records, 1000, views=ImageViews(SIZE))
    augmented = ImageStream(records, 1000, views=ImageViews(SIZE, randaugment=(2, 9)))
    return {
        "bare": bare(pattern).prefetch(2),
        "plain": plain.training(0, 0, BATCH).prefetch(2),
        "augmented": augmented.training(0, 0, BATCH).prefetch(2),
    }


def bare(pattern):
    """A minimal training stream, written by hand."""
    import tensorflow as tf

    def example(number, serialized):
        features = tf.io.parse_single_example(
            serialized,
            {
                "image/encoded": tf.io.FixedLenFeature((), tf.string),
                "image/class/label": tf.io.FixedLenFeature((), tf.int64),
            },
        )
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


def with_keras_cv(stream):
    """Batches augmented by keras_cv's layer."""
    import keras_cv
    import tensorflow as tf

    layer = keras_cv.layers.RandAugment((0, 255), 2, magnitude=9 / 30)

    def augmented(batch):
        return {**batch, "images": layer(batch["images"], training=True)}

    return stream.map(augmented, tf.data.AUTOTUNE).prefetch(2)


def timer(dataset):
    """A function of a number of batches that returns the seconds and the processor time."""

    def taken(batches):
        iterator = iter(dataset)
        for _ in range(WARM_BATCHES):
            next(iterator)
        began, busy = time.perf_counter(), time.process_time()
        for _ in range(batches):
            next(iterator)
        return time.perf_counter() - began, time.process_time() - busy

    return taken


@contextlib.contextmanager
def torch_timer(python, folder):
    """Like `timer`, for a process that runs this file in another Python."""
    command = [python, os.path.abspath(__file__), "--torch_side", folder]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )

    def taken(batches):
        print(batches, file=process.stdin, flush=True)
        return tuple(map(float, process.stdout.readline().split()))

    try:
        yield taken
    finally:
        process.stdin.close()
        process.wait()


def serve_torch(folder):
    """Reads numbers of batches from standard input and times that many of torchvision's."""
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
    images = JpegFolder(folder, transform)
    for line in sys.stdin:
        batches = int(line)
        images.repeats = -(-(batches + WARM_BATCHES) * BATCH // len(images.files))
        loader = torch.utils.data.DataLoader(
            images, BATCH, shuffle=True, num_workers=CORES, drop_last=True
        )
        iterator = iter(loader)
        for _ in range(WARM_BATCHES):
            next(iterator)
        busy, began = processor_seconds(iterator), time.perf_counter()
        for _ in range(batches):
            next(iterator)
        seconds = time.perf_counter() - began
        print(seconds, processor_seconds(iterator) - busy, flush=True)


class JpegFolder:
    """The JPEGs of a folder, each several times."""

    def __init__(self, folder, transform):
        names = sorted(name for name in os.listdir(folder) if name.endswith(".jpg"))
        self.files = [os.path.join(folder, name) for name in names]
        self.transform, self.repeats = transform, 1

    def __len__(self):
        return len(self.files) * self.repeats

    def __getitem__(self, number):
        from PIL import Image

        with Image.open(self.files[number % len(self.files)]) as image:
            return self.transform(image.convert("RGB")), number


def processor_seconds(iterator):
    """The processor time of this process and the loader's workers so far."""
    seconds, tick = time.process_time(), os.sysconf("SC_CLK_TCK")
    for worker in iterator._workers:
        with open(f"/proc/{worker.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / tick
    return seconds


if __name__ == "__main__":
    main()
