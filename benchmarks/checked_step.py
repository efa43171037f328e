"""Times the joint step, which is checked before its update, against one that is not, in turns.

    python -m benchmarks.checked_step [--size=base] [--images=8] [--texts=1] [--rounds=15]
                                      [--dtype=mixed_bfloat16]

Both share one network, in one process. The step without a check clips by `tf.clip_by_global_norm`,
and always updates weights and metrics.
"""

import argparse
import statistics
import time

import tensorflow as tf

from benchmarks.masked_step import compiled_step, random_batch
from keras_vitbert.configs.pretraining import load_config, with_sizes
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.merging import GradientMask


class UncheckedTrainer(JointTrainer):
    """A trainer that applies every step."""

    def update(self, gradients, loss, measured):
        replicas = tf.distribute.get_replica_context()
        gradients = replicas.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        gradients, norm = tf.clip_by_global_norm(gradients, self.clip_norm)
        self.optimizer.apply(gradients, self.network.trainable_variables)
        self.record(measured)
        return True, {"gradient_norm": norm}


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="base", help="an encoder of keras_vitbert.configs.sizes")
    parser.add_argument("--images", type=int, default=8, help="images a step")
    parser.add_argument("--texts", type=int, default=1, help="texts a step")
    parser.add_argument("--rounds", type=int, default=15, help="counted pairs of steps")
    parser.add_argument("--dtype", default="mixed_bfloat16", help="or float32")
    arguments = parser.parse_args()

    config = with_sizes(load_config(f"paper:{arguments.size}"))
    network = build_network(config.model, dtype=arguments.dtype)
    batch = random_batch(config.model, arguments.images, arguments.texts)
    steps = {
        cls: compiled_step(network, GradientMask(), config, cls)
        for cls in (JointTrainer, UncheckedTrainer)
    }
    seconds = {cls: [] for cls in steps}
    for round_number in range(arguments.rounds + 1):
        for cls in list(steps) if round_number % 2 else list(steps)[::-1]:
            began = time.perf_counter()
            steps[cls](batch)
            if round_number:  # the first traces
                seconds[cls].append(time.perf_counter() - began)
    pairs = zip(seconds[JointTrainer], seconds[UncheckedTrainer], strict=True)
    ratios = sorted(checked / unchecked for checked, unchecked in pairs)
    print(
        f"{arguments.size}, {arguments.dtype}, {arguments.images} images and {arguments.texts} "
        f"texts a step: median of {len(ratios)} ratios checked / unchecked "
        f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
    )


if __name__ == "__main__":
    main()
