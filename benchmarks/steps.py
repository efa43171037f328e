"""The joint step of the benchmarks: the paper's config at a size, and a random batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from keras_vitbert.configs.loading import load_config
from keras_vitbert.configs.merges import Merge
from keras_vitbert.configs.pretraining import Pretraining

if TYPE_CHECKING:
    from keras_vitbert.training.joint_trainer import JointTrainer


def paper_config(size: str, **model) -> Pretraining:
    """The paper's config with an encoder of `configs.model.SIZES`, and changes to its model."""
    values = {f"model.{field}": value for field, value in model.items()}
    return load_config(f"paper:{size}").with_sizes().with_values(values)


def compiled_trainer(
    config: Pretraining, dtype: str = "float32", jit_compile: bool = False
) -> JointTrainer:
    """A trainer that merges by masks, half of whose entries are cleared, as at the end."""
    from keras_vitbert.merging import get_merge
    from keras_vitbert.model.pretraining_network import build_network
    from keras_vitbert.training.joint_trainer import JointTrainer
    from keras_vitbert.training.optimizers import build_optimizer

    network = build_network(config.model.to_dict(), dtype=dtype)
    merge = get_merge(Merge(name="mask"))
    trainer = JointTrainer(network, merge)
    optimizer = build_optimizer(config.optimizer, config.steps, network.trainable_variables)
    trainer.compile(optimizer=optimizer, jit_compile=jit_compile)
    for mask in merge.mask.masks:
        mask.assign(np.random.default_rng(0).random(mask.shape) < 0.5)
    return trainer


def compiled_step(trainer: JointTrainer, batch: dict) -> Callable[[], object]:
    """A callable that runs one training step of TensorFlow and waits for it."""
    import tensorflow as tf

    step = tf.function(trainer.train_step, autograph=False)  # as in `fit`
    tensors = {name: tf.constant(value) for name, value in batch.items()}
    return lambda: step(tensors)["gradient_norm"].numpy()


def random_batch(model, images: int, texts: int) -> dict[str, np.ndarray]:
    """Random inputs in the shapes of a config's `model` section."""
    rng = np.random.default_rng(0)
    length, predictions = model.max_sequence_length, round(0.15 * model.max_sequence_length)

    def integers(high, *shape):
        return rng.integers(high, size=shape, dtype=np.int32)

    return {
        "images": rng.random((images, model.image_size, model.image_size, 3), np.float32),
        "image_labels": integers(model.num_classes, images),
        "token_ids": integers(model.vocabulary_size, texts, length),
        "segment_ids": integers(2, texts, length),
        "padding_mask": np.ones((texts, length), np.int32),
        "masked_positions": integers(length, texts, predictions),
        "masked_ids": integers(model.vocabulary_size, texts, predictions),
        "masked_weights": np.ones((texts, predictions), np.float32),
        "next_sentence_labels": integers(2, texts),
    }
