"""The joint step of the benchmarks: the paper's config at a size, a random batch, one callable."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_vitbert.configs.loading import load_config
from keras_vitbert.configs.merges import Merge
from keras_vitbert.configs.pretraining import Pretraining
from keras_vitbert.merging import get_merge
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.optimizers import build_optimizer


def paper_config(size: str, **model) -> Pretraining:
    """The paper's config with an encoder of `configs.model.SIZES`, and changes to its model."""
    values = {f"model.{field}": value for field, value in model.items()}
    return load_config(f"paper:{size}").with_sizes().with_values(values)


def compiled_trainer(config: Pretraining, dtype: str = "float32") -> JointTrainer:
    """A trainer that merges by masks, half of whose entries are cleared, as at the end."""
    network = build_network(config.model.to_dict(), dtype=dtype)
    merge = get_merge(Merge(name="mask"))
    trainer = JointTrainer(network, merge)
    optimizer = build_optimizer(config.optimizer, config.steps, network.trainable_variables)
    trainer.compile(optimizer=optimizer, jit_compile=False)
    for mask in merge.mask.masks:
        mask.assign(np.random.default_rng(0).random(mask.shape) < 0.5)
    return trainer


def compiled_step(trainer: JointTrainer, batch: dict) -> Callable[[], object]:
    """A callable that runs one training step and waits for it."""
    step = tf.function(trainer.train_step, autograph=False)  # as in `fit`
    return lambda: step(batch)["gradient_norm"].numpy()


def random_batch(model, images: int, texts: int) -> dict:
    """Random inputs in the shapes of a config's `model` section."""
    rng = np.random.default_rng(0)
    length, predictions = model.max_sequence_length, round(0.15 * model.max_sequence_length)
    pixels = rng.random((images, model.image_size, model.image_size, 3))

    def integers(high, *shape):
        return tf.constant(rng.integers(high, size=shape), tf.int32)

    return {
        "images": tf.constant(pixels, tf.float32),
        "image_labels": integers(model.num_classes, images),
        "token_ids": integers(model.vocabulary_size, texts, length),
        "segment_ids": integers(2, texts, length),
        "padding_mask": tf.ones((texts, length), tf.int32),
        "masked_positions": integers(length, texts, predictions),
        "masked_ids": integers(model.vocabulary_size, texts, predictions),
        "masked_weights": tf.ones((texts, predictions)),
        "next_sentence_labels": integers(2, texts),
    }
