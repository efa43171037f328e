"""Times the joint step with layers' forms for CPUs against that with Keras' layers, in turns.

    python -m benchmarks.cpu_layers [--size=base] [--images=8] [--texts=1] [--rounds=9]
                                    [--dtype=mixed_bfloat16]

Both drop by example; the step with Keras' layers draws with Philox, as on GPUs.
"""

import functools
import statistics

from benchmarks.steps import compiled_step, in_turns, sized, step_parser
from keras_vitbert.configs.merges import Merge
from keras_vitbert.merging import get_merge
from keras_vitbert.training.joint_trainer import JointTrainer


def _trainer(network, merge, on_cpu):
    trainer = JointTrainer(network, merge)
    trainer.on_cpu = on_cpu
    trainer.dropout.generator = "threefry" if on_cpu else "philox16"
    return trainer


def main():
    """Runs the benchmark."""
    parser = step_parser(__doc__, texts=1)
    parser.add_argument("--dtype", default="mixed_bfloat16", help="or float32")
    arguments = parser.parse_args()
    config, network, batch = sized(arguments, arguments.dtype)
    steps = {
        name: compiled_step(
            network,
            get_merge(Merge(name="mask")),
            config,
            functools.partial(_trainer, on_cpu=name == "cpu"),
        )
        for name in ("keras", "cpu")
    }
    rounds = list(in_turns(steps, batch, arguments.rounds))
    ratios = sorted(seconds["cpu"] / seconds["keras"] for seconds in rounds)
    seconds = [statistics.median(r[name] for r in rounds) for name in ("keras", "cpu")]
    print(
        f"{arguments.size}, {arguments.dtype}, {arguments.images} images and {arguments.texts} "
        f"texts: Keras' layers {seconds[0]:.2f} s, for CPUs {seconds[1]:.2f} s, "
        f"{statistics.median(ratios):.3f} of the time ({ratios[0]:.3f} to {ratios[-1]:.3f})"
    )


if __name__ == "__main__":
    main()
