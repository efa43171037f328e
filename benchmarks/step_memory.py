"""What accumulation and recomputation save and cost: the most memory and the time of a step.

    python -m benchmarks.step_memory [--sizes=base,large] [--images=8] [--texts=8] [--rounds=3]
                                     [--settings=1,2,4,8,remat,8+remat] [--dtype=float32]

A setting is a number of parts, `remat`, or both with a `+`. Each is a process of its own. Beside
its most memory stands that of the model before a step: TensorFlow, weights and moments.
"""

import functools
import resource
import statistics
import subprocess
import sys

from benchmarks.steps import compiled_step, in_turns, random_batch, step_parser
from keras_vitbert.configs.pretraining import load_config, with_sizes
from keras_vitbert.merging import get_merge
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.training.joint_trainer import JointTrainer


def main():
    """Runs the benchmark."""
    parser = step_parser(__doc__, texts=8, rounds=3)
    parser.add_argument("--sizes", default="base,large")
    parser.add_argument("--settings", default="1,2,4,8,remat,8+remat")
    parser.add_argument("--dtype", default="float32", help="or mixed_bfloat16")
    parser.add_argument("--alone", default="", help="the setting that this process measures")
    arguments = parser.parse_args()
    if arguments.alone:
        print(*_measured(arguments))
        return
    print(f"{arguments.dtype}, {arguments.images} images and {arguments.texts} texts a step")
    for size in arguments.sizes.split(","):
        first = None
        for setting in arguments.settings.split(","):
            command = [sys.executable, "-m", "benchmarks.step_memory", *sys.argv[1:]]
            command += [f"--size={size}", f"--alone={setting}"]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            before, most, seconds = map(float, done.stdout.split()[-3:])
            first = first or seconds
            print(
                f"{size:<8}{setting:<10}{most / 1e3:6.1f} GB at most, {before / 1e3:.1f} GB before "
                f"a step; {seconds / first:.2f} times the first setting's time",
                flush=True,
            )


def _measured(arguments):
    """MB before a step, MB at most, seconds of a step."""
    config = with_sizes(load_config(f"paper:{arguments.size}"))
    network = build_network(config.model, dtype=arguments.dtype)
    *parts, last = arguments.alone.split("+")
    remat = last == "remat"
    parts = int((parts or ["1"])[0] if remat else last)
    trainer = functools.partial(JointTrainer, accumulation=parts, remat=remat)
    step = compiled_step(network, get_merge({"name": "mask"}), config, trainer)
    batch = random_batch(config.model, arguments.images, arguments.texts)
    before = _most()
    rounds = list(in_turns({"step": step}, batch, arguments.rounds))
    return before, _most(), statistics.median(seconds["step"] for seconds in rounds)


def _most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()
