"""Fixtures of the model's tests: a tiny network with random weights, and batches for it."""

import numpy as np
import pytest

TINY = {
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 8,
    "intermediate_dim": 12,
    "image_size": 6,
    "patch_size": 3,
    "vocabulary_size": 13,
    "max_sequence_length": 7,
    "num_classes": 3,
    "dropout": 0.0,
}
PREDICTIONS = 3


@pytest.fixture(scope="session")
def tiny():
    """The `model` section of a config: the smallest model that has everything."""
    return dict(TINY)


@pytest.fixture(scope="session")
def randomize():
    """`randomize(model, seed) -> model`: weights all random, biases and norms too."""

    def randomize(model, seed):
        rng = np.random.default_rng(seed)
        for variable in model.trainable_variables:
            offset = 1.0 if variable.path.endswith("gamma") else 0.0
            variable.assign(offset + rng.normal(0, 0.4, variable.shape))
        return model

    return randomize


@pytest.fixture(scope="session")
def make_network(tiny, randomize):
    """`make_network(seed=0, dtype=None, images=True, text=True, **model) -> network`."""
    from keras_vitbert.model.pretraining_network import build_network

    def make(seed=0, dtype=None, images=True, text=True, **model):
        network = build_network({**tiny, **model}, images=images, text=text, dtype=dtype)
        return randomize(network, seed)

    return make


@pytest.fixture(scope="session")
def network(make_network):
    """A tiny network for tests that leave it as it is."""
    return make_network()


@pytest.fixture(scope="session")
def make_batch(tiny):
    """`make_batch(seed, images=4, texts=4) -> dict`: NumPy arrays as `JointTrainer` takes them.

    The first text is as long as it can be, the others are padded; the number of masked tokens
    varies too.
    """

    def make(seed, images=4, texts=4):
        rng = np.random.default_rng(seed)
        length, size = tiny["max_sequence_length"], tiny["image_size"]

        def integers(high, *shape, low=0):
            return rng.integers(low, high, shape, dtype=np.int32)

        lengths = np.append(length, integers(length, texts - 1, low=PREDICTIONS + 1))
        segments = integers(lengths, texts)
        columns = np.arange(length)
        masked = [rng.choice(n - 1, PREDICTIONS, replace=False) + 1 for n in lengths]
        weights = np.arange(PREDICTIONS) <= integers(PREDICTIONS, texts)[:, None]
        return {
            "images": rng.random((images, size, size, 3), np.float32),
            "image_labels": integers(tiny["num_classes"], images),
            "token_ids": integers(tiny["vocabulary_size"], texts, length),
            "segment_ids": (columns > segments[:, None]).astype(np.int32),
            "padding_mask": (columns < lengths[:, None]).astype(np.int32),
            "masked_positions": np.array(masked, np.int32),
            "masked_ids": integers(tiny["vocabulary_size"], texts, PREDICTIONS),
            "masked_weights": weights.astype(np.float32),
            "next_sentence_labels": integers(2, texts),
        }

    return make
