"""Steps that XLA compiles, as on a single GPU, here on the CPU: they are the ordinary ones.

Only rounding differs. What it is divided by is therefore not small: AdamW has an epsilon beside
which the gradients that are zero but for rounding, those of the keys' biases, do not move weights.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.configs import merges, optimizers
from keras_vitbert.configs.optimizers import PretrainingOptimizer
from keras_vitbert.merging import get_merge
from keras_vitbert.model.classifier import build_classifier
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.training.fine_tuner import FineTuner
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.optimizers import build_optimizer
from tests.keras_vitbert import gpu_kernels
from tests.keras_vitbert.training import replicas_script

STEPS = 6
OPTIMIZER = {**replicas_script.ADAMW, "momentum": 0.9, "epsilon": 1e-2}
MODEL = {**replicas_script.MODEL, "stochastic_depth": 0.0}


class Watch(keras.callbacks.Callback):
    """Notes what is told of each execution."""

    def __init__(self):
        super().__init__()
        self.norms, self.bad = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.norms.append(float(logs["gradient_norm"]))
        self.bad += [step.step for step in self.model.bad_steps]


def fitted(trainer, dataset, optimizer, **options):
    """Everything that training leaves: dict of name to array."""
    trainer.compile(
        build_optimizer(
            PretrainingOptimizer(**optimizer), STEPS + 1, trainer.network.trainable_variables
        ),
        **options,
    )
    watch = Watch()
    trainer.fit(dataset, steps_per_epoch=STEPS, callbacks=[watch], shuffle=False, verbose=0)
    assert trainer.step == STEPS and trainer.jit_compile == options["jit_compile"]
    variables = [*trainer.network.trainable_variables, *trainer.optimizer.variables]
    # Keras numbers optimisers, in their variables' paths.
    found = {f"{n} {v.path.split('/')[-1]}": v.value.numpy() for n, v in enumerate(variables)}
    return found | {"norms": np.array(watch.norms), "bad": np.array(watch.bad)}


def assert_close(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=2e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], value, err_msg=name)


def texts():
    """Batches whose lengths differ, as those of buckets do."""
    rng = np.random.default_rng(0)
    for number in range(STEPS):
        length = (5, 12)[number % 2]
        ids = rng.integers(0, MODEL["vocabulary_size"], (4, length), dtype=np.int32)
        yield {
            "token_ids": ids,
            "segment_ids": (np.arange(length) > 3).astype(np.int32) * np.ones_like(ids),
            "padding_mask": (np.arange(length) < [[5], [4], [3], [5]]).astype(np.int32),
            "labels": ids.sum(1) % 3,
        }


def fine_tuned(jit_compile, executed, **options):
    keras.utils.set_random_seed(0)
    trainer = FineTuner(build_classifier(MODEL, "text", 3), seed=5, **options)
    spec = {
        name: tf.TensorSpec((4, None) if value.ndim > 1 else (4,), tf.int32)
        for name, value in next(texts()).items()
    }
    dataset = tf.data.Dataset.from_generator(texts, output_signature=spec).repeat()
    options = {"jit_compile": jit_compile, "steps_per_execution": executed}
    return fitted(trainer, dataset, OPTIMIZER, **options)


@pytest.mark.slow
def test_fine_tuning_steps_on_texts_of_several_lengths():
    wanted = fine_tuned(False, 1)
    wanted["norms"] = wanted["norms"][2::3]  # of an execution only the last step's norm is told
    for jit_compile in (False, True):
        assert_close(fine_tuned(jit_compile, 3), wanted)


@pytest.mark.parametrize("name", optimizers.OPTIONS)
def test_optimizers(name):
    """Steps whose gradients are given, the third of them bad."""
    rng = np.random.default_rng(0)
    shapes = (6, 4), (4, 3, 2), (5,)
    steps = [[np.float32(rng.normal(size=shape)) for shape in shapes] for _ in range(4)]

    def applied(jit_compile):
        keras.utils.set_random_seed(0)
        variables = [
            keras.Variable(np.full(shape, 0.5, np.float32), name=part)
            for shape, part in zip(shapes, ("kernel", "embeddings", "bias"), strict=True)
        ]
        optimizer = build_optimizer(
            PretrainingOptimizer(**{**OPTIMIZER, "name": name, "ema": 0.9}), 10, variables
        )

        @tf.function(jit_compile=jit_compile, autograph=False)
        def step(gradients, good):
            optimizer.apply(gradients, None, good)
            return optimizer.largest_update(tf.constant(1.0))[0]

        found = {}
        for number, gradients in enumerate(steps):
            most = step([tf.constant(g) for g in gradients], tf.constant(number != 2))
            found[f"{number} bound"] = most.numpy()
            for place, variable in enumerate([*variables, *optimizer.variables]):
                found[f"{number} {place}"] = variable.value.numpy()
        return found

    assert_close(applied(True), applied(False))


@pytest.mark.slow
def test_nothing_large_of_a_joint_step_is_on_the_host_of_a_gpu():
    """Where the step is not compiled: a probing step with an update of the masks."""
    if not gpu_kernels.known():
        pytest.skip("this build of TensorFlow has no kernels of GPUs")
    network = build_network({**MODEL, "hidden_dim": 128, "intermediate_dim": 128})
    trainer = JointTrainer(network, get_merge(merges.Merge(name="mask"), seed=7))
    trainer.in_turn = True
    trainer.compile(
        build_optimizer(PretrainingOptimizer(**OPTIMIZER), STEPS, network.trainable_variables)
    )
    specs = {
        name: tf.TensorSpec((8, *value.shape[1:]), value.dtype)
        for name, value in replicas_script.make_examples().items()
    }
    step = tf.function(lambda batch: trainer.train_step(batch, probing=True), autograph=False)
    assert gpu_kernels.on_host(step.get_concrete_function(specs)) == set()
