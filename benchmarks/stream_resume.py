"""Resuming the joint stream against starting it: time to the first batch, and equality.

    python -m benchmarks.stream_resume [--images=4000] [--texts=120000] [--rounds=5]

It writes images of some 100 kB and texts of 512 tokens to a temporary folder, more than a window of
each, so that both are read like large data. Then it times, in turns, the first batch of a fresh
stream and of one that begins in the middle of epoch 50, and compares 100 batches after a random
step with those of the unbroken stream, byte for byte.
"""

import argparse
import itertools
import statistics
import tempfile
import time

import numpy as np

STEP = {"images": 64, "texts": 64}


def write(folder, images, texts):
    import tensorflow as tf

    from pipelines.shards.tfrecords import to_example, write_shards

    random = np.random.default_rng(0)

    def image(number):
        coarse = random.integers(0, 256, (12, 16, 3)).astype(np.float32)
        pixels = tf.image.resize(coarse, (375, 500), "bicubic").numpy()
        pixels += random.normal(0, 18, pixels.shape)
        pixels = tf.cast(tf.clip_by_value(pixels, 0, 255), tf.uint8)
        encoded = tf.io.encode_jpeg(pixels, quality=88).numpy()
        return to_example({"image/encoded": encoded, "image/class/label": 1 + number % 1000})

    def text(number):
        return to_example(
            {
                "input_ids": random.integers(5, 30_000, 512),
                "input_mask": np.ones(512, int),
                "segment_ids": np.arange(512) // 256,
                "next_sentence_labels": number % 2,
            }
        )

    pool = [image(number) for number in range(200)]  # encoding takes most of the time
    write_shards((pool[n % 200] for n in range(images)), f"{folder}/image", 16)
    write_shards(map(text, range(texts)), f"{folder}/text", 16, kind="text examples")


def open_stream(folder):
    from pipelines.image_stream import ImageStream
    from pipelines.images.image_views import ImageViews
    from pipelines.joint_stream import JointStream
    from pipelines.shards.records import RecordFiles
    from pipelines.text.wordpiece import SPECIAL_TOKENS
    from pipelines.text_stream import TextStream

    vocabulary = [*SPECIAL_TOKENS, *(f"word{n}" for n in range(30_000 - len(SPECIAL_TOKENS)))]
    records = RecordFiles.find(f"{folder}/image-*")
    images = ImageStream(records, 1000, views=ImageViews(224))
    masking = {"max_predictions": 76, "ratio": 0.15, "whole_word": False}
    records = RecordFiles.find(f"{folder}/text-*")
    texts = TextStream.open(records, vocabulary, 30_000, 512, masking)
    return JointStream(images, images, texts, texts, STEP["images"], STEP["texts"])


def first_batch(folder, step):
    """Seconds from opening the files to the first batch."""
    began = time.perf_counter()
    next(iter(open_stream(folder).training(step)))
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--texts", type=int, default=120_000)
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(folder, flags.images, flags.texts)
        stream = open_stream(folder)
        megabytes = (stream.images.records.bytes / 1e6, stream.texts.records.bytes / 1e6)
        print("images: {:.0f} MB, texts: {:.0f} MB".format(*megabytes))
        epoch_50 = int(50.5 * flags.images) // STEP["images"]
        first_batch(folder, 0)  # fills the system's page cache
        ratios = []
        for _ in range(flags.rounds):
            fresh = first_batch(folder, 0)
            ratios.append(first_batch(folder, epoch_50) / fresh)
            print(f"fresh {fresh:.2f} s, in the middle of epoch 50 {ratios[-1] * fresh:.2f} s")
        median = statistics.median(ratios)
        print(f"first batch, epoch 50 against fresh: median of ratios {median:.2f}")

        step = int(np.random.default_rng().integers(1, 2 * flags.images // STEP["images"]))
        unbroken = itertools.islice(stream.training(), step, step + 100)
        equal = 0
        for one, other in zip(unbroken, open_stream(folder).training(step), strict=False):
            one, other = ({k: v.numpy().tobytes() for k, v in b.items()} for b in (one, other))
            equal += one == other
        print(f"resumed at step {step}: {equal} of 100 batches equal to the unbroken stream's")


if __name__ == "__main__":
    main()
