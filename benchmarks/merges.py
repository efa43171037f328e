"""Times the joint step with other merges against the plain sum, in one process, in turns.

    python -m benchmarks.merges [--merges=mask,pcgrad,nash] [--size=base] [--images=8] [--texts=2]
                                [--rounds=9] [--dtype=float32] [--per_block] [--memory]

For each merge it prints the median of the ratios of its step to that of `sum`; both share one
network, so that memory and caches are the same. The batch is smaller than the paper's, so a merge
takes a larger part of the step than at full size. `--memory` runs a few steps of each in a process
of its own instead, and prints the most memory that it held.
"""

import gc
import resource
import statistics
import subprocess
import sys

from benchmarks.steps import compiled_step, in_turns, random_batch, step_parser
from keras_vitbert.configs.merges import ENTRIES, WEIGHTINGS
from keras_vitbert.configs.pretraining import load_config, with_sizes
from keras_vitbert.merging import get_merge
from keras_vitbert.model.pretraining_network import build_network

_STEPS = 3  # of a process whose memory is looked at


def main():
    """Runs the benchmark."""
    parser = step_parser(__doc__, texts=2)
    parser.add_argument("--merges", default=",".join((*ENTRIES, *WEIGHTINGS)))
    parser.add_argument("--dtype", default="float32", help="or mixed_bfloat16")
    parser.add_argument("--per_block", action="store_true", help="of those that can")
    parser.add_argument("--memory", action="store_true", help="memory in place of time")
    parser.add_argument("--alone", default="", help="a merge whose memory this process looks at")
    arguments = parser.parse_args()
    if arguments.alone:
        print(f"{_memory(arguments):.0f}")
        return
    names = [name for name in arguments.merges.split(",") if name != "sum"]
    print(
        f"{arguments.size}, {arguments.dtype}, {arguments.images} images and {arguments.texts} "
        "texts a step"
    )
    if arguments.memory:
        for name in ("sum", *names):
            command = [sys.executable, "-m", "benchmarks.merges", *sys.argv[1:], f"--alone={name}"]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            print(f"{name:<16}{int(done.stdout.split()[-1]):>8,} MB at most", flush=True)
        return
    config, network, batch = _made(arguments)
    for name in names:
        steps = {
            merge: compiled_step(network, _merge(merge, arguments), config)
            for merge in (name, "sum")
        }
        rounds = list(in_turns(steps, batch, arguments.rounds))
        ratios = [seconds[name] / seconds["sum"] for seconds in rounds]
        middle = statistics.median(seconds["sum"] for seconds in rounds)
        print(
            f"{name:<16}{statistics.median(ratios):.3f} times the sum's "
            f"({min(ratios):.3f} to {max(ratios):.3f}); the sum's step took {middle:.2f} s",
            flush=True,
        )
        del steps
        gc.collect()


def _made(arguments):
    config = with_sizes(load_config(f"paper:{arguments.size}"))
    network = build_network(config.model, dtype=arguments.dtype)
    return config, network, random_batch(config.model, arguments.images, arguments.texts)


def _merge(name, arguments):
    """A merge by its name; by block where that is asked for and it can."""
    if arguments.per_block:
        try:
            return get_merge({"name": name, "per_block": True})
        except ValueError:
            pass
    return get_merge({"name": name})


def _memory(arguments):
    """The most memory of this process in some steps, in MB."""
    config, network, batch = _made(arguments)
    step = compiled_step(network, _merge(arguments.alone, arguments), config)
    for _ in range(_STEPS):
        step(batch)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()
