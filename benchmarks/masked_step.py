"""Times the masked joint step against the summed one, in one process, in turns.

    python -m benchmarks.masked_step [--size=base] [--images=8] [--texts=2] [--rounds=9]

Prints the seconds of both for each round and the median of the ratios masked / summed. Both
trainers share one network, so that memory and caches are the same for both. The batch is smaller
than the paper's, so the merge takes a larger part of the step than at full size.
"""

import argparse
import statistics
import time

import numpy as np
import tensorflow as tf

from keras_vitbert.configs.pretraining import load_config, with_sizes
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.merging import GradientMask, GradientSum
from keras_vitbert.training.optimizers import build_optimizer


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="base", help="an encoder of keras_vitbert.configs.sizes")
    parser.add_argument("--images", type=int, default=8, help="images a step")
    parser.add_argument("--texts", type=int, default=2, help="texts a step")
    parser.add_argument("--rounds", type=int, default=9, help="counted pairs of steps")
    parser.add_argument("--dtype", default="float32", help="or mixed_bfloat16")
    arguments = parser.parse_args()

    config = with_sizes(load_config(f"paper:{arguments.size}"))
    network = build_network(config.model, dtype=arguments.dtype)
    batch = random_batch(config.model, arguments.images, arguments.texts)
    steps = {
        name: compiled_step(network, merge, config)
        for name, merge in (("masked", GradientMask()), ("summed", GradientSum()))
    }
    print(
        f"{arguments.size}, {arguments.dtype}, {network.count_params():,} parameters, "
        f"{arguments.images} images and {arguments.texts} texts a step"
    )
    seconds = {name: [] for name in steps}
    for round_number in range(arguments.rounds + 1):
        order = list(steps) if round_number % 2 else list(steps)[::-1]
        for name in order:
            began = time.perf_counter()
            steps[name](batch)
            if round_number:  # the first traces
                seconds[name].append(time.perf_counter() - began)
        if round_number:
            m, s = seconds["masked"][-1], seconds["summed"][-1]
            print(f"round {round_number}: masked {m:.3f} s, summed {s:.3f} s, ratio {m / s:.3f}")
    ratios = [m / s for m, s in zip(seconds["masked"], seconds["summed"], strict=True)]
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(
        f"median: masked {medians['masked']:.3f} s, summed {medians['summed']:.3f} s, "
        f"ratio of medians {medians['masked'] / medians['summed']:.3f}, "
        f"median of ratios {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f})"
    )


def compiled_step(network, merge, config, trainer_class=JointTrainer):
    """A callable that runs one training step on a batch and waits for it."""
    trainer = trainer_class(network, merge)
    variables = network.trainable_variables
    trainer.compile(
        optimizer=build_optimizer(config.optimizer, config.steps, variables), jit_compile=False
    )
    if merge.masked:  # masks as at the end of training: half of the entries cleared
        for mask in merge.masks:
            mask.assign(np.random.default_rng(0).random(mask.shape) < 0.5)
    step = tf.function(trainer.train_step)
    return lambda batch: step(batch)["gradient_norm"].numpy()


def random_batch(model, images, texts):
    """Random inputs in the shapes of a config's `model` section."""
    rng = np.random.default_rng(0)
    length, predictions = model.max_sequence_length, round(0.15 * model.max_sequence_length)
    vocabulary = model.vocabulary_size

    def integers(high, *shape):
        return tf.constant(rng.integers(high, size=shape), tf.int32)

    return {
        "images": tf.constant(
            rng.random((images, model.image_size, model.image_size, 3)), "float32"
        ),
        "image_labels": integers(model.num_classes, images),
        "token_ids": integers(vocabulary, texts, length),
        "segment_ids": integers(2, texts, length),
        "padding_mask": tf.ones((texts, length), tf.int32),
        "masked_positions": integers(length, texts, predictions),
        "masked_ids": integers(vocabulary, texts, predictions),
        "masked_weights": tf.ones((texts, predictions)),
        "next_sentence_labels": integers(2, texts),
    }


if __name__ == "__main__":
    main()
