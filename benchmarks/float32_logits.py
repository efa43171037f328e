"""Times the joint step with float32 logits against logits rounded to bfloat16, in turns.

    python -m benchmarks.float32_logits [--size=base] [--images=8] [--texts=1] [--rounds=9]

Both networks are in mixed bfloat16 and in one process; one computes its logits, the last product of
each head, in float32, as the project does (`keras_vitbert.model.heads.logits_policy`).
"""

import statistics

from benchmarks.steps import compiled_step, in_turns, random_batch, step_parser
from keras_vitbert.configs.loading import load_config
from keras_vitbert.configs.merges import Merge
from keras_vitbert.merging import get_merge
from keras_vitbert.model import heads
from keras_vitbert.model.pretraining_network import build_network


def main():
    """Runs the benchmark."""
    parser = step_parser(__doc__, texts=1)
    arguments = parser.parse_args()

    config = load_config(f"paper:{arguments.size}").with_sizes()
    batch = random_batch(config.model, arguments.images, arguments.texts)
    own, steps = heads.logits_policy, {}
    for name, policy in (("float32", own), ("bfloat16", lambda policy: policy)):
        heads.logits_policy = policy
        network = build_network(config.model.to_dict(), dtype="mixed_bfloat16")
        steps[name] = compiled_step(network, get_merge(Merge(name="mask")), config)
    ratios = sorted(
        seconds["float32"] / seconds["bfloat16"]
        for seconds in in_turns(steps, batch, arguments.rounds)
    )
    print(
        f"{arguments.size}, {arguments.images} images and {arguments.texts} texts a step: "
        f"median of {len(ratios)} ratios float32 / bfloat16 {statistics.median(ratios):.3f} "
        f"({ratios[0]:.3f} to {ratios[-1]:.3f})"
    )


if __name__ == "__main__":
    main()
