"""Times the joint step with float32 logits against logits rounded to bfloat16, in turns.

    python -m benchmarks.float32_logits [--size=base] [--images=8] [--texts=1] [--rounds=9]

Both networks are in mixed bfloat16 and in one process; one computes its logits, the last product of
each head, in float32, as the project does (`keras_vitbert.model.heads.logits_policy`).
"""

import argparse
import statistics
import time

from benchmarks.masked_step import compiled_step, random_batch
from keras_vitbert.configs.pretraining import load_config, with_sizes
from keras_vitbert.model import heads
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.training.merging import GradientMask


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="base", help="an encoder of keras_vitbert.configs.sizes")
    parser.add_argument("--images", type=int, default=8, help="images a step")
    parser.add_argument("--texts", type=int, default=1, help="texts a step")
    parser.add_argument("--rounds", type=int, default=9, help="counted pairs of steps")
    arguments = parser.parse_args()

    config = with_sizes(load_config(f"paper:{arguments.size}"))
    batch = random_batch(config.model, arguments.images, arguments.texts)
    own, steps = heads.logits_policy, {}
    for name, policy in (("float32", own), ("bfloat16", lambda policy: policy)):
        heads.logits_policy = policy
        network = build_network(config.model, dtype="mixed_bfloat16")
        steps[name] = compiled_step(network, GradientMask(), config)
    seconds = {name: [] for name in steps}
    for round_number in range(arguments.rounds + 1):
        for name in list(steps) if round_number % 2 else list(steps)[::-1]:
            began = time.perf_counter()
            steps[name](batch)
            if round_number:  # the first traces
                seconds[name].append(time.perf_counter() - began)
    ratios = sorted(f / b for f, b in zip(seconds["float32"], seconds["bfloat16"], strict=True))
    print(
        f"{arguments.size}, {arguments.images} images and {arguments.texts} texts a step: "
        f"median of {len(ratios)} ratios float32 / bfloat16 {statistics.median(ratios):.3f} "
        f"({ratios[0]:.3f} to {ratios[-1]:.3f})"
    )


if __name__ == "__main__":
    main()
