"""What KerasCV's layers cost as a part of the training step: milliseconds a batch for each.

    python -m benchmarks.image_layers [--batch=64] [--image_size=224] [--runs=5]

Each layer is timed alone, compiled as in a step. The median of the runs is reported, with the
number of images a second and the seconds that its graph takes to build.
"""

import argparse
import statistics
import time

import tensorflow as tf

from keras_vitbert.training.image_layers import ImageLayers
from pipelines.images.layer_notation import LAYERS

CHOOSING = ("RandomApply", "RandomChoice", "RandomAugmentationPipeline")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--runs", type=int, default=5)
    values = parser.parse_args()
    size = values.image_size
    images = tf.random.stateless_uniform((values.batch, size, size, 3), (0, 1))
    numbers = tf.stack([tf.range(values.batch), tf.zeros(values.batch, tf.int32)], -1)
    print(f"{values.batch} images of {size} pixels, a batch")
    for name in LAYERS:
        if name in CHOOSING:
            continue
        layers = ImageLayers([name], size, 0, "layers")
        run = tf.function(lambda images, numbers, layers=layers: layers(images, numbers))
        began = time.monotonic()
        run(images, numbers)
        made, seconds = time.monotonic() - began, []
        for _ in range(values.runs):
            began = time.monotonic()
            run(images, numbers).numpy()
            seconds.append(time.monotonic() - began)
        median = statistics.median(seconds)
        print(
            f"{name:<26}{1e3 * median:8.1f} ms{values.batch / median:10,.0f} images/s"
            f"{made:8.1f} s to begin",
            flush=True,
        )


if __name__ == "__main__":
    main()
