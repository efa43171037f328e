"""Times one refresh of the masks (Algorithm 1) against a sort of all magnitudes, in turns.

    python -m benchmarks.mask_refresh [--size=base] [--rounds=5]

Both find the 10 % smallest of random gradients of the shared encoder. Prints seconds and ratios.
"""

import argparse
import math
import statistics
import time

import tensorflow as tf

from keras_vitbert.configs.model import SIZES
from keras_vitbert.merging.selection import smallest

PART = 10  # one entry in so many is found


def encoder_shapes(size):
    """The shapes of the shared encoder's tensors.

    Args:
        size: mapping with `num_layers`, `hidden_dim` and `intermediate_dim`.
    """
    d, wide = size["hidden_dim"], size["intermediate_dim"]
    block = [(d, d)] * 4 + [(d, wide), (wide, d)] + [(d,)] * 9 + [(wide,)]
    return block * size["num_layers"] + [(d,)] * 2


def selection_of(shapes):
    """The selection of the smallest of random gradients.

    Args:
        shapes: list of tuples of int.

    Returns:
        (callable that returns boolean tensors; int, all entries).
    """
    gradients = _gradients(shapes)
    candidates = [tf.ones(shape, tf.bool) for shape in shapes]
    total = sum(math.prod(shape) for shape in shapes)
    count = tf.constant(total // PART)
    return tf.function(lambda: smallest(gradients, candidates, count)), total


def _gradients(shapes):
    return [tf.random.normal(shape, seed=1) for shape in shapes]


def marked_by(marks):
    """Waits for the marks and counts the marked entries: int."""
    return sum(int(tf.math.count_nonzero(part)) for part in marks)


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="base", help="an encoder of keras_vitbert.configs.model")
    parser.add_argument("--rounds", type=int, default=5, help="counted pairs")
    arguments = parser.parse_args()

    shapes = encoder_shapes(SIZES[arguments.size])
    selection, total = selection_of(shapes)
    gradients = _gradients(shapes)
    count = total // PART

    @tf.function
    def sort():
        magnitudes = tf.concat([tf.reshape(tf.abs(g), [-1]) for g in gradients], 0)
        threshold = tf.sort(magnitudes)[count - 1]
        return [tf.abs(g) <= threshold for g in gradients]

    print(f"{arguments.size}: {total:,} entries in {len(shapes)} tensors")
    ratios = []
    for round_number in range(arguments.rounds + 1):
        seconds = {}
        for name, function in (("selection", selection), ("sort", sort)):
            began = time.perf_counter()
            marked = marked_by(function())
            seconds[name] = time.perf_counter() - began
            assert marked >= count
        if round_number:  # the first traces
            ratios.append(seconds["selection"] / seconds["sort"])
            print(
                f"round {round_number}: selection {seconds['selection']:.2f} s, "
                f"sort {seconds['sort']:.2f} s, ratio {ratios[-1]:.3f}"
            )
    print(f"median ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
