"""Prints what a joint step takes by the lifetimes of its tensors, and by TensorFlow's allocator.

For a process of its own: GPUs' allocator, which counts, must be chosen for the CPU before
TensorFlow is loaded.
"""

import json
import os
import sys
import types

os.environ["TF_CPU_ALLOCATOR_USE_BFC"] = "1"

import tensorflow as tf

from benchmarks.steps import random_batch
from keras_vitbert.ahead_of_time.lifetimes import peak_of
from keras_vitbert.configs import merges
from keras_vitbert.configs.optimizers import PretrainingOptimizer
from keras_vitbert.merging import get_merge
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.optimizers import build_optimizer
from tests.keras_vitbert.training.joint_steps import ADAMW

IMAGES, TEXTS = 32, 16
STEPS = 9  # their peaks differ by a tenth, as kernels end in any order
MODEL = {
    "num_layers": 3,
    "num_heads": 2,
    "hidden_dim": 64,
    "intermediate_dim": 256,
    "image_size": 64,
    "patch_size": 8,
    "vocabulary_size": 500,
    "max_sequence_length": 128,
    "num_classes": 10,
    "dropout": 0.1,
}


def main():
    # As on a GPU, one operation after the other; and the graph as it was traced.
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    batch, found = random_batch(types.SimpleNamespace(**MODEL), IMAGES, TEXTS), {}
    for name, options in json.loads(sys.argv[1]).items():
        network = build_network(MODEL)
        trainer = JointTrainer(network, get_merge(merges.Merge(name="mask")), **options)
        trainer.as_on_gpu()
        trainer.compile(
            build_optimizer(PretrainingOptimizer(**ADAMW), 100, network.trainable_variables)
        )
        step = tf.function(trainer.train_step)
        predicted = peak_of(step.get_concrete_function(batch).graph)
        step(batch)
        counted = []
        for _ in range(STEPS):
            tf.config.experimental.reset_memory_stats("CPU:0")
            before = tf.config.experimental.get_memory_info("CPU:0")["current"]
            step(batch)
            most = tf.config.experimental.get_memory_info("CPU:0")["peak"]
            counted.append(most - before)
        found[name] = predicted.bytes, predicted.allocated, sorted(counted)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
