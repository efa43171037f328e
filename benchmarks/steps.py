"""What the benchmarks of training steps share: flags, batches, compiled steps, and their turns."""

import argparse
import time

import numpy as np
import tensorflow as tf

from keras_vitbert.configs.loading import load_config
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.optimizers import build_optimizer


def step_parser(doc, texts, rounds=9):
    """A parser of the flags `--size`, `--images`, `--texts` and `--rounds`.

    Args:
        doc: str, of the module; its first line is shown.
        texts, rounds: int, their defaults.
    """
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--size", default="base", help="an encoder of keras_vitbert.configs.model")
    parser.add_argument("--images", type=int, default=8, help="images a step")
    parser.add_argument("--texts", type=int, default=texts, help="texts a step")
    parser.add_argument("--rounds", type=int, default=rounds, help="counted pairs of steps")
    return parser


def sized(arguments, dtype="float32", **changes):
    """What the flags of `step_parser` ask for.

    Args:
        arguments: of `step_parser`.
        dtype: str, of the network.
        **changes: of the config's `model`.

    Returns:
        (config of the paper with that encoder, network, random batch).
    """
    values = {f"model.{field}": value for field, value in changes.items()}
    config = load_config(f"paper:{arguments.size}").with_sizes().with_values(values)
    network = build_network(config.model.to_dict(), dtype=dtype)
    return config, network, random_batch(config.model, arguments.images, arguments.texts)


def in_turns(steps, batch, rounds):
    """Times steps in turns, in reverse order every other round.

    Args:
        steps: dict of name to a callable that runs a step on a batch and waits for it.
        batch: what they are given.
        rounds: int; one more, which traces, comes first.

    Yields:
        dict of name to seconds, for each round.
    """
    for number in range(rounds + 1):
        seconds = {}
        for name in list(steps)[:: 1 if number % 2 else -1]:
            began = time.perf_counter()
            steps[name](batch)
            seconds[name] = time.perf_counter() - began
        if number:
            yield seconds


def compiled_trainer(network, merge, config, trainer_class=JointTrainer):
    """A trainer with the optimiser of a config."""
    trainer = trainer_class(network, merge)
    variables = network.trainable_variables
    trainer.compile(
        optimizer=build_optimizer(config.optimizer, config.steps, variables), jit_compile=False
    )
    return trainer


def compiled_step(network, merge, config, trainer_class=JointTrainer):
    """A callable that runs one training step on a batch and waits for it."""
    trainer = compiled_trainer(network, merge, config, trainer_class)
    clear_half(merge)
    step = tf.function(trainer.train_step, autograph=False)  # as in `fit`
    return lambda batch: step(batch)["gradient_norm"].numpy()


def clear_half(merge):
    """Sets masks, if there are any, as at the end of training."""
    if merge.mask:
        for mask in merge.mask.masks:
            mask.assign(np.random.default_rng(0).random(mask.shape) < 0.5)


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
