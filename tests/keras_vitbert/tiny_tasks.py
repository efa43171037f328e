"""Tiny tasks of the user's own, and the command `finetune`.

The fixtures `image_task` and `text_task` in `tests/conftest.py` make them once for all tests.
"""

import csv
import pathlib

import numpy as np

from tests.keras_vitbert.tiny_runs import VOCABULARY

CLASSES = ["blue", "green", "red"]
IMAGES = {"train": 26, "validation": 11}  # neither is a multiple of the batch
TEXTS = {"train": 30, "dev": 13}

RATES = (0.003, 0.03)  # of a sweep on images
# Runs of a few seconds, with averages and rates by layer; the log's last line is of one step.
IMAGE_FLAGS = (
    "--config.optimizer.ema=0.7",
    "--config.optimizer.layer_decay=0.9",
    "--config.image_size=12",
    "--config.batch=4",
    "--config.steps=5",
    "--config.steps_per_epoch=2",
    "--config.evaluation_batch=4",
    "--config.images.crop_area=(0.5,1.0)",
)
TEXT_FLAGS = (
    "--config.bucket_boundaries=(8,12)",
    "--config.batch=4",
    "--config.steps=4",
    "--config.steps_per_epoch=2",
    "--config.evaluation_batch=4",
    "--config.optimizer.learning_rate=1e-2",
)


def write_images(folder, seed=0, counts=IMAGES):
    """Writes JPEGs whose brightest channel is their class."""
    import tensorflow as tf

    random = np.random.default_rng(seed)
    for split, count in counts.items():
        for number in range(count):
            label = number % len(CLASSES)
            pixels = random.integers(0, 120, (14, 16, 3))
            pixels[..., 2 - label] += 100
            path = pathlib.Path(folder) / split / CLASSES[label] / f"{number:03}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tf.io.encode_jpeg(pixels.astype(np.uint8)).numpy())
    return folder


def write_texts(folder, seed=0, counts=TEXTS):
    """Writes TSV files of pairs: class `yes` where the second sentence begins with `word1`."""
    random = np.random.default_rng(seed)
    words = VOCABULARY[5:]
    for split, count in counts.items():
        lines = ["index\tsentence1\tsentence2\tlabel"]
        for number in range(count):
            first, second = (
                " ".join(random.choice(words, random.integers(1, 9))) for _ in range(2)
            )
            label = ("no", "yes")[int(random.random() < 0.6)]
            second = f"word1 {second}" if label == "yes" else second
            lines.append(f"{number}\t{first}\t{second}\t{label}")
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        (pathlib.Path(folder) / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def rows_of(path):
    """The rows of a CSV file."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def finetune(*argv):
    """Runs the command in this process; returns its exit status."""
    from keras_vitbert.finetune import main
    from pipelines import command_line

    return command_line.run(main, [str(argument) for argument in argv])
