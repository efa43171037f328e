"""Times the joint step, which is checked before its update, against one that is not, in turns.

    python -m benchmarks.checked_step [--size=base | --config=sample] [--images=8] [--texts=1]
                                      [--rounds=15] [--dtype=mixed_bfloat16]

Both share one network, in one process. The step without a check clips by `tf.clip_by_global_norm`,
and always updates weights and metrics.
"""

import statistics

import tensorflow as tf

from benchmarks.steps import compiled_step, in_turns, random_batch, step_parser
from keras_vitbert.configs.loading import load_config
from keras_vitbert.configs.merges import Merge
from keras_vitbert.merging import get_merge
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.training.joint_trainer import JointTrainer


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
    parser = step_parser(__doc__, texts=1, rounds=15)
    parser.add_argument("--config", help="one of pretrain's, instead of the paper's at --size")
    parser.add_argument("--dtype", default="mixed_bfloat16", help="or float32")
    arguments = parser.parse_args()

    name = arguments.config or f"paper:{arguments.size}"
    config = load_config(name).with_sizes()
    network = build_network(config.model.to_dict(), dtype=arguments.dtype)
    batch = random_batch(config.model, arguments.images, arguments.texts)
    steps = {
        cls: compiled_step(network, get_merge(Merge(name="mask")), config, cls)
        for cls in (JointTrainer, UncheckedTrainer)
    }
    ratios = sorted(
        seconds[JointTrainer] / seconds[UncheckedTrainer]
        for seconds in in_turns(steps, batch, arguments.rounds)
    )
    print(
        f"{name}, {arguments.dtype}, {arguments.images} images and {arguments.texts} "
        f"texts a step: median of {len(ratios)} ratios checked / unchecked "
        f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
    )


if __name__ == "__main__":
    main()
