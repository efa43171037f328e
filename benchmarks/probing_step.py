"""Times a probing step, which measures both gradients, against an ordinary one, in turns.

    python -m benchmarks.probing_step [--config=paper] [--size=base] [--images=8] [--texts=2]
                                      [--rounds=9] [--interval=1000] [--histograms]

It prints the seconds of both for each round, the median of the ratios probing / ordinary, and the
share of a training with a probing step every `--interval` steps (the config's `gradient_interval`).
One trainer runs both; nothing is cleared.
"""

import statistics

import tensorflow as tf

from benchmarks.steps import in_turns, random_batch, step_parser
from keras_vitbert.configs.loading import load_config
from keras_vitbert.configs.merges import Merge
from keras_vitbert.merging import get_merge
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.optimizers import build_optimizer


def main():
    """Runs the benchmark."""
    parser = step_parser(__doc__, texts=2)
    parser.add_argument("--config", default="paper", help="a config of keras_vitbert.configs")
    parser.add_argument("--interval", type=int, help="steps between two probing ones")
    parser.add_argument("--histograms", action="store_true", help="with histograms as well")
    arguments = parser.parse_args()

    config = load_config(f"{arguments.config}:{arguments.size}").with_sizes()
    interval = arguments.interval or config.inspection.gradient_interval
    network = build_network(config.model.to_dict())
    merge = get_merge(Merge(name="mask"))
    trainer = JointTrainer(network, merge, gradient_histograms=arguments.histograms)
    variables = network.trainable_variables
    trainer.compile(
        optimizer=build_optimizer(config.optimizer, config.steps, variables), jit_compile=False
    )
    batch = random_batch(config.model, arguments.images, arguments.texts)
    ordinary = tf.function(trainer.train_step, autograph=False)
    probing = tf.function(lambda batch: trainer.train_step(batch, probing=True), autograph=False)

    def measured(batch):
        probing(batch)["gradient_norm"].numpy()
        trainer.conflict.values(), trainer.conflict.buckets()  # read as for the log

    steps = {
        "ordinary": lambda batch: ordinary(batch)["gradient_norm"].numpy(),
        "probing": measured,
    }
    print(
        f"{arguments.size}, {network.count_params():,} parameters, {arguments.images} images and "
        f"{arguments.texts} texts a step"
    )
    ratios = []
    for number, seconds in enumerate(in_turns(steps, batch, arguments.rounds), 1):
        p, o = seconds["probing"], seconds["ordinary"]
        ratios.append(p / o)
        print(f"round {number}: probing {p:.3f} s, ordinary {o:.3f} s, ratio {p / o:.3f}")
    ratio = statistics.median(ratios)
    print(
        f"median of ratios {ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f}); every {interval} "
        f"steps that is {(ratio - 1) / interval:.4%} of training"
    )


if __name__ == "__main__":
    main()
