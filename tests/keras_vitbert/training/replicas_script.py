"""Trains a few steps on a number of logical CPUs and saves how every replica ends.

For a process of its own, as TensorFlow's devices are set once a process. Everything that could
depend on the number of replicas is on: dropout, masks that refresh, clipping, distillation, and
masked tokens of which some replicas hold more than others. Other merges than the paper's are
trained by SGD. Several replicas train one of them in parts, with blocks that are computed again,
and one replica does not.
"""

import functools
import gc

import keras
import numpy as np
import tensorflow as tf

from keras_vitbert.configs import merges, optimizers
from keras_vitbert.configs.optimizers import PretrainingOptimizer
from keras_vitbert.merging import get_merge
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.training.distillation import Teachers
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.optimizers import SGD, build_optimizer
from pipelines.text_stream import packed

GLOBAL_BATCH = 8
STEPS = 10
CLIP_NORM = 0.5
# Of the merges.
BY_BLOCK, IN_PARTS = "mask+gradvac", "mask+pcgrad"
OPTIONS = {BY_BLOCK: {"per_block": True}}
CLEAR = {2: 150, 4: 151, 6: 152, 8: 153}  # entries by step
MODEL = {
    "num_layers": 1,
    "num_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 32,
    "image_size": 8,
    "patch_size": 4,
    "vocabulary_size": 30,
    "max_sequence_length": 12,
    "num_classes": 3,
    "dropout": 0.1,
    "stochastic_depth": 0.1,
}
PACKED = "sum"  # the merge of texts that several replicas pack, and one does not
ADAMW = {
    "name": "adamw",
    "ema": 0.0,
    "learning_rate": 1e-2,
    "warmup_steps": 2,
    "decay_power": 1.0,
    "beta_1": 0.9,
    "beta_2": 0.999,
    "epsilon": 1e-6,
    "weight_decay": 0.01,
}


def make_examples():
    rng = np.random.default_rng(0)
    n, length, predictions = STEPS * GLOBAL_BATCH, MODEL["max_sequence_length"], 4

    def integers(high, *shape):
        return rng.integers(0, high, (n, *shape), dtype=np.int32)

    # The first of each two texts has one masked token, the second up to four; some have none.
    masked = np.where(np.arange(n) % 2, rng.integers(0, predictions + 1, n), 1)
    return {
        "images": rng.random((n, 8, 8, 3), np.float32),
        "image_labels": integers(3),
        "token_ids": integers(30, length),
        "segment_ids": integers(2, length),
        "padding_mask": (np.arange(length) < 5 + integers(8)[:, None]).astype(np.int32),
        "masked_positions": integers(5, predictions),
        "masked_ids": integers(30, predictions),
        "masked_weights": (np.arange(predictions) < masked[:, None]).astype(np.float32),
        "next_sentence_labels": integers(2),
    }


class Schedule(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.norms = []

    def on_train_batch_begin(self, batch, logs=None):
        if self.model.step in CLEAR:
            self.model.request_gradient_stats(CLEAR[self.model.step])

    def on_train_batch_end(self, batch, logs=None):
        self.norms.append(float(logs["gradient_norm"]))


def replica_values(variables):
    """For each replica all variables as one vector, from that replica's own copies."""
    copies = [getattr(v.value, "values", [v.value]) for v in variables]
    if not copies:
        return []
    return [np.concatenate([np.ravel(c[i]) for c in copies]) for i in range(len(copies[0]))]


@functools.cache  # another one would number its sums like the first, whose shapes are others
def make_strategy(replicas):
    strategy = tf.distribute.get_strategy()
    if replicas > 1:
        strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    assert strategy.num_replicas_in_sync == replicas
    return strategy


def shares(strategy, examples, packed_parts=0):
    size = GLOBAL_BATCH // strategy.num_replicas_in_sync
    examples = examples.batch(size, drop_remainder=True)
    if packed_parts:
        examples = examples.map(lambda batch: packed(batch, packed_parts))
    return strategy.distribute_datasets_from_function(lambda context: examples)


def train(optimizer_name, replicas, steps_per_execution, merge_name="mask"):
    """Trains on batches that are the same whatever the number of replicas."""
    strategy, is_packed = make_strategy(replicas), merge_name == PACKED
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = dict(MODEL)
        if merge_name != "mask":
            # With it rounding decides which of two entries goes into a mask of `mask+gradvac`.
            model["stochastic_depth"] = 0.0
        if is_packed:
            # The numbers of dropout belong to rows, which each replica packs for itself.
            model["dropout"] = 0.0
        network, teacher = build_network(model), build_network(model)
        merge = get_merge(merges.Merge(name=merge_name, **OPTIONS.get(merge_name, {})), seed=7)
        teachers = Teachers(teacher, teacher)
        options = {}
        if replicas > 1 and merge_name in (IN_PARTS, PACKED):
            options = {"accumulation": GLOBAL_BATCH // replicas // 2, "remat": True}
        trainer = JointTrainer(network, merge, teachers, 0.5, 2.0, clip_norm=CLIP_NORM, **options)
        variables = network.trainable_variables
        if optimizer_name == "sgd":
            optimizer = SGD(0.1)
        else:
            optimizer = build_optimizer(PretrainingOptimizer(**ADAMW), STEPS + 1, variables)
        trainer.compile(optimizer, steps_per_execution=steps_per_execution)
    before = replica_values(variables)
    examples = tf.data.Dataset.from_tensor_slices(make_examples())
    parts = options["accumulation"] if is_packed and options else 0
    dataset = shares(strategy, examples, parts)
    schedule = Schedule()
    trainer.fit(dataset, steps_per_epoch=STEPS, callbacks=[schedule], shuffle=False, verbose=0)
    assert trainer.step == STEPS
    return {
        "before": before,
        "weights": replica_values(variables),
        "masks": replica_values(merge.mask.masks if merge.mask else []),
        "state": replica_values([*merge.variables, *optimizer.variables]),
        "gradient_norms": schedule.norms,
        "conflict": replica_values([trainer.conflict.numbers]),
    }


def apply_to_sums(replicas):
    """Five steps of each optimiser with gradients that are equal on all replicas, one of them bad.

    Training would amplify the rounding of gradients that are zero, such as the key biases': these
    optimisers do not look at a gradient's size.
    """
    rng = np.random.default_rng(0)
    shapes = (6, 4), (4, 3, 2), (5,)
    steps = [[np.float32(rng.normal(size=shape)) for shape in shapes] for _ in range(5)]
    strategy, found = make_strategy(replicas), {}
    for name in optimizers.OPTIONS:
        with strategy.scope():
            keras.utils.set_random_seed(0)
            variables = [
                keras.Variable(np.full(shape, 0.5, np.float32), name=part)
                for shape, part in zip(shapes, ("kernel", "embeddings", "bias"), strict=True)
            ]
            config = {**ADAMW, "name": name, "momentum": 0.9, "ema": 0.9}
            optimizer = build_optimizer(PretrainingOptimizer(**config), 10, variables)

        @tf.function
        def step(gradients, good, optimizer=optimizer):
            strategy.run(optimizer.apply, args=(gradients, None, good))

        for number, gradients in enumerate(steps):
            step([tf.constant(g) for g in gradients], tf.constant(number != 2))
        found[f"{name} weights"] = replica_values(variables)
        found[f"{name} state"] = replica_values(optimizer.variables)
    return found


def set_devices(count):
    """Divides the CPU into logical devices."""
    gc.disable()  # the graphs grow with the replicas, and looking through them takes long
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * count
    )


def main(path, what, replicas, executed):
    """Writes what is found.

    Args:
        path: str, of an `.npz`.
        what: str, "adamw", "sgd", "sums" or the name of a merge.
        replicas: int.
        executed: int, steps an execution.
    """
    set_devices(replicas)
    # Optimising a graph takes longer than ten steps; `test_pretrain_replicas` does without this.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    if what == "sums":
        found = apply_to_sums(replicas)
    elif what in ("adamw", "sgd"):
        found = train(what, replicas, executed)
    else:
        found = train("sgd", replicas, executed, what)
    np.savez(path, **found)
