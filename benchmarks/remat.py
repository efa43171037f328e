"""What recomputation saves and costs: the most memory and the time of a step, with and without.

    python -m benchmarks.remat [--sizes=base,large] [--images=8] [--texts=2] [--rounds=3]
                               [--dtype=float32]

Each is a process of its own; beside its most memory, that of a model that has not made a step yet
(weights and moments) is told.
"""

import resource
import statistics
import subprocess
import sys

from benchmarks.steps import compiled_step, in_turns, random_batch, step_parser
from keras_vitbert.configs.pretraining import load_config, with_sizes
from keras_vitbert.merging import get_merge
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.training.recomputation import recompute


def main():
    """Runs the benchmark."""
    parser = step_parser(__doc__, texts=2, rounds=3)
    parser.add_argument("--sizes", default="base,large")
    parser.add_argument("--dtype", default="float32", help="or mixed_bfloat16")
    parser.add_argument("--alone", default="", help="what this process measures: plain or remat")
    arguments = parser.parse_args()
    if arguments.alone:
        print(*_measured(arguments))
        return
    print(f"{arguments.dtype}, {arguments.images} images and {arguments.texts} texts a step")
    for size in arguments.sizes.split(","):
        seconds = {}
        for name in ("plain", "remat"):
            command = [sys.executable, "-m", "benchmarks.remat", *sys.argv[1:]]
            command += [f"--size={size}", f"--alone={name}"]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            before, most, seconds[name] = map(float, done.stdout.split()[-3:])
            ratio = seconds[name] / seconds["plain"]
            print(
                f"{size:<8}{name:<8}{most / 1e3:6.1f} GB at most, {before / 1e3:.1f} GB before a "
                f"step; {ratio:.2f} times the plain step's time",
                flush=True,
            )


def _measured(arguments):
    """MB before a step, MB at most, seconds of a step."""
    config = with_sizes(load_config(f"paper:{arguments.size}"))
    network = build_network(config.model, dtype=arguments.dtype)
    if arguments.alone == "remat":
        recompute(network.backbone.blocks)
    step = compiled_step(network, get_merge({"name": "mask"}), config)
    batch = random_batch(config.model, arguments.images, arguments.texts)
    before = _most()
    rounds = list(in_turns({"step": step}, batch, arguments.rounds))
    return before, _most(), statistics.median(seconds["step"] for seconds in rounds)


def _most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()
