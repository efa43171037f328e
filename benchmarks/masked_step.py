"""Times the masked joint step against the summed one, in one process, in turns.

    python -m benchmarks.masked_step [--size=base] [--images=8] [--texts=2] [--rounds=9]

Prints the seconds of both for each round and the median of the ratios masked / summed. Both
trainers share one network, so that memory and caches are the same for both. The batch is smaller
than the paper's, so the merge takes a larger part of the step than at full size.
"""

import statistics

from benchmarks.steps import compiled_step, in_turns, random_batch, step_parser
from keras_vitbert.configs.pretraining import load_config, with_sizes
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.training.merging import GradientMask, GradientSum


def main():
    """Runs the benchmark."""
    parser = step_parser(__doc__, texts=2)
    parser.add_argument("--dtype", default="float32", help="or mixed_bfloat16")
    arguments = parser.parse_args()

    config = with_sizes(load_config(f"paper:{arguments.size}"))
    network = build_network(config.model, dtype=arguments.dtype)
    batch = random_batch(config.model, arguments.images, arguments.texts)
    steps = {
        name: compiled_step(network, merge, config)
        for name, merge in (("masked", GradientMask()), ("summed", GradientSum()))
    }
    print(
        f"{arguments.size}, {arguments.dtype}, {network.count_params():,} parameters, "
        f"{arguments.images} images and {arguments.texts} texts a step"
    )
    rounds = []
    for number, seconds in enumerate(in_turns(steps, batch, arguments.rounds), 1):
        rounds.append(seconds)
        m, s = seconds["masked"], seconds["summed"]
        print(f"round {number}: masked {m:.3f} s, summed {s:.3f} s, ratio {m / s:.3f}")
    ratios = [seconds["masked"] / seconds["summed"] for seconds in rounds]
    medians = {name: statistics.median(seconds[name] for seconds in rounds) for name in steps}
    print(
        f"median: masked {medians['masked']:.3f} s, summed {medians['summed']:.3f} s, "
        f"ratio of medians {medians['masked'] / medians['summed']:.3f}, "
        f"median of ratios {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f})"
    )


if __name__ == "__main__":
    main()
