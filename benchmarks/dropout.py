"""Times the joint step with dropout by example against Keras' own dropout, in turns.

    python -m benchmarks.dropout [--size=base] [--images=8] [--texts=1] [--rounds=9]
                                 [--dtype=mixed_bfloat16]

All steps are in one process and share one network. `none` is the step without dropout.
"""

import statistics

from benchmarks.steps import compiled_step, in_turns, sized, step_parser
from keras_vitbert.configs.merges import Merge
from keras_vitbert.merging import get_merge
from keras_vitbert.training.cpu_layers import for_cpu
from keras_vitbert.training.example_dropout import GENERATORS
from keras_vitbert.training.joint_trainer import JointTrainer


class _Keras(JointTrainer):
    def forward(self, inputs, step, place=0, part=0):
        with for_cpu(self.on_cpu):
            return self.network(inputs, training=True)


class _Without(JointTrainer):
    def forward(self, inputs, step, place=0, part=0):
        with for_cpu(self.on_cpu):
            return self.network(inputs, training=False)


def _by(generator):
    class ByExample(JointTrainer):
        def __init__(self, network, *args, **kwargs):
            super().__init__(network, *args, **kwargs)
            self.dropout.generator = generator

    return ByExample


def main():
    """Runs the benchmark."""
    parser = step_parser(__doc__, texts=1)
    parser.add_argument("--dtype", default="mixed_bfloat16", help="or float32")
    arguments = parser.parse_args()
    config, network, batch = sized(arguments, arguments.dtype)
    trainers = {"keras": _Keras, "none": _Without, **{name: _by(name) for name in GENERATORS}}
    steps = {
        name: compiled_step(network, get_merge(Merge(name="mask")), config, trainer)
        for name, trainer in trainers.items()
    }
    rounds = list(in_turns(steps, batch, arguments.rounds))
    print(
        f"{arguments.size}, {arguments.dtype}, {arguments.images} images and {arguments.texts} "
        f"texts a step, dropout {config.model.dropout}"
    )
    for name in list(steps)[1:]:
        ratios = sorted(seconds[name] / seconds["keras"] for seconds in rounds)
        print(
            f"{name:<10}{statistics.median(ratios):.3f} times Keras' "
            f"({ratios[0]:.3f} to {ratios[-1]:.3f})"
        )


if __name__ == "__main__":
    main()
