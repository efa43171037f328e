"""What is said of two gradients, against NumPy in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.merging import Merge, Sum
from keras_vitbert.training.gradient_conflict import ALL, BUCKETS, GradientConflict
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.optimizers import SGD
from tests.keras_vitbert.training.joint_steps import gradients, image_loss, text_loss

BLOCKS = ("block_0", "block_1", "final_norm")


class Shared:
    """What is asked of a shared variable."""

    def __init__(self, path):
        self.path = path


def measured(text, image, histograms=False):
    """The conflict of gradients that are given as dicts of path to array."""
    conflict = GradientConflict([Shared(path) for path in text], histograms)
    conflict.measure(
        *([tf.constant(g, tf.float32) for g in side.values()] for side in (text, image))
    )
    return conflict


def by_numpy(text, image):
    """The numbers of two flat gradients."""
    t, i = np.float64(text), np.float64(image)
    norms = np.sqrt(t @ t), np.sqrt(i @ i)
    return {
        "text_norm": norms[0],
        "image_norm": norms[1],
        "cosine": t @ i / (norms[0] * norms[1]),
        "norm_ratio": norms[0] / norms[1],
        "opposite_sign": np.mean(np.sign(t) * np.sign(i) < 0),
    }


def flat(gradients, block=""):
    return np.concatenate([np.ravel(g) for path, g in gradients.items() if path.startswith(block)])


def test_gradients_made_by_hand():
    """Opposite, at right angles, and alike but for entries that are 0."""
    text = {
        "block_0/a": [[3.0, -4.0], [0.0, 0.0]],
        "block_0/b": [0.0],
        "block_1/a": [1.0, 0.0, 0.0],
        "final_norm/a": [1.0, 2.0, 2.0, -1.0],
    }
    image = {
        "block_0/a": [[-6.0, 8.0], [0.0, 0.0]],
        "block_0/b": [0.0],
        "block_1/a": [0.0, -5.0, 0.0],
        "final_norm/a": [1.0, 2.0, -2.0, 0.0],
    }
    found = measured(text, image).values()
    assert list(found) == [*BLOCKS, ALL]
    opposed = {"text_norm": 5, "image_norm": 10, "norm_ratio": 0.5, "cosine": -1}
    assert found["block_0"] == pytest.approx({**opposed, "opposite_sign": 2 / 5})
    across = {"text_norm": 1, "image_norm": 5, "norm_ratio": 0.2, "cosine": 0}
    assert found["block_1"] == pytest.approx({**across, "opposite_sign": 0})
    assert found["final_norm"]["cosine"] == pytest.approx(1 / np.sqrt(10 * 9))
    assert found["final_norm"]["opposite_sign"] == 1 / 4
    assert found[ALL] == pytest.approx(by_numpy(flat(text), flat(image)), rel=1e-6)


def test_what_is_not_there_or_tiny():
    """No gradient at all; and signs that a float32 product would lose."""
    nothing = {"block_0/a": [0.0, 0.0]}
    found = measured(nothing, {"block_0/a": [1.0, -1.0]}).values()["block_0"]
    assert (found["cosine"], found["norm_ratio"], found["opposite_sign"]) == (0, 0, 0)
    assert measured({"block_0/a": [1.0, 1.0]}, nothing).values()[ALL]["norm_ratio"] == 0
    tiny = measured({"block_0/a": [1e-30, 1e-30]}, {"block_0/a": [-1e-30, 1e-30]})
    assert tiny.values()["block_0"]["opposite_sign"] == 0.5


def test_histograms():
    random = np.random.default_rng(0)
    text = {f"{block}/{n}": random.normal(0, 1, (7, 50)) for block in BLOCKS for n in range(2)}
    image = {path: 0.01 * np.float32(g) ** 3 for path, g in text.items()}
    image["block_1/0"] = image["block_1/1"] = np.full((7, 50), 0.25)  # all alike
    found = measured(text, image, histograms=True).buckets()
    assert set(found) == {(block, task) for block in BLOCKS for task in ("text", "image")}
    for (block, task), rows in found.items():
        entries = np.float32(flat({"text": text, "image": image}[task], block))
        assert rows.shape == (BUCKETS, 3) and rows[:, 2].sum() == entries.size
        assert rows[0, 0] == entries.min() and rows[-1, 1] == entries.max()
        np.testing.assert_array_equal(rows[1:, 0], rows[:-1, 1])
        if (block, task) != ("block_1", "image"):
            counts, edges = np.histogram(np.float64(entries), BUCKETS)
            np.testing.assert_allclose(rows[:, 0], edges[:-1], atol=1e-6)
            np.testing.assert_array_equal(rows[:, 2], counts)
    assert measured(text, image).buckets() == {}


def sides(network, batch):
    """The gradients of both tasks on the shared variables, by path."""
    shared = {v.path for v in network.backbone.shared_variables}
    paths = [v.path for v in network.trainable_variables]
    return [
        {p: g for p, g in zip(paths, gradients(loss, network, batch), strict=True) if p in shared}
        for loss in (text_loss, image_loss)
    ]


@pytest.fixture
def trainer(make_network):
    trainer = JointTrainer(make_network(), Merge(Sum()), gradient_histograms=True)
    trainer.compile(SGD(0.0))
    return trainer


def test_of_a_tiny_model(trainer, make_batch):
    batch = make_batch(4)
    text, image = sides(trainer.network, batch)
    trainer.train_step({n: tf.constant(x) for n, x in batch.items()}, probing=True)
    found = trainer.conflict.values()
    assert list(found) == [*BLOCKS, ALL]
    for block in found:
        both = [flat(g, "" if block == ALL else block) for g in (text, image)]
        expected = by_numpy(*both)
        # What a softmax does not see has no gradient but rounding, whose signs mean nothing.
        noise = np.mean(np.abs(both[0] * both[1]) < 1e-14)
        opposite = found[block].pop("opposite_sign")
        assert (
            opposite == pytest.approx(expected.pop("opposite_sign"), abs=noise) and opposite > 0.1
        )
        assert found[block] == pytest.approx(expected, rel=1e-5)
    for (block, task), rows in trainer.conflict.buckets().items():
        entries = flat({"text": text, "image": image}[task], block)
        assert rows[0, 0] == pytest.approx(entries.min(), rel=1e-5)
        assert rows[:, 2].sum() == entries.size


class Ask(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if self.model.step in (0, 4):
            self.model.request_gradient_stats()

    def on_train_batch_end(self, batch, logs=None):
        self.seen = [*getattr(self, "seen", []), (self.model.step, self.model.probed)]


@pytest.mark.slow
def test_of_several_steps_the_first_is_looked_at(make_network, make_batch):
    batches = [make_batch(number) for number in range(6)]
    joined = {n: np.concatenate([b[n] for b in batches]) for n in batches[0]}
    dataset = tf.data.Dataset.from_tensor_slices(joined).batch(4)
    trainer = JointTrainer(make_network(num_layers=1), Merge(Sum()))
    trainer.compile(SGD(0.0), steps_per_execution=2, run_eagerly=True)
    ask = Ask()
    trainer.fit(dataset, steps_per_epoch=6, callbacks=[ask], shuffle=False, verbose=0)
    assert ask.seen == [(2, True), (4, False), (6, True)]
    text, image = sides(trainer.network, batches[4])  # weights stand still
    found = trainer.conflict.values()[ALL]
    assert found["cosine"] == pytest.approx(by_numpy(flat(text), flat(image))["cosine"], rel=1e-4)
