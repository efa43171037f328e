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

LAYERS = {
    "AugMix": {},
    "AutoContrast": {},
    "ChannelShuffle": {},
    "Equalization": {},
    "Grayscale": {"output_channels": 3},
    "GridMask": {},
    "Posterization": {"bits": 4},
    "RandAugment": {},
    "RandomBrightness": {"factor": 0.2},
    "RandomChannelShift": {"factor": 0.2},
    "RandomColorDegeneration": {"factor": 0.5},
    "RandomColorJitter": {
        "brightness_factor": 0.2,
        "contrast_factor": 0.2,
        "saturation_factor": [0.4, 0.6],
        "hue_factor": 0.1,
    },
    "RandomContrast": {"factor": 0.2},
    "RandomCropAndResize": {"crop_area_factor": [0.8, 1.0], "aspect_ratio_factor": [0.75, 1.33]},
    "RandomCutout": {"height_factor": 0.3, "width_factor": 0.3},
    "RandomFlip": {},
    "RandomGaussianBlur": {"kernel_size": 3, "factor": [0.0, 1.0]},
    "RandomHue": {"factor": 0.1},
    "RandomJpegQuality": {"factor": [60, 100]},
    "RandomRotation": {"factor": 0.05},
    "RandomSaturation": {"factor": [0.4, 0.6]},
    "RandomSharpness": {"factor": 0.5},
    "RandomShear": {"x_factor": 0.1, "y_factor": 0.1},
    "RandomTranslation": {"height_factor": 0.1, "width_factor": 0.1},
    "RandomZoom": {"height_factor": 0.1},
    "Solarization": {"threshold_factor": [128, 255]},
}


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
    for name, config in LAYERS.items():
        layers = ImageLayers([{"class_name": name, "config": config}], size, 0, "layers")
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
