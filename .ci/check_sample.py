"""Fails unless the summary of a sample run shows what the README promises."""

import json
import sys


def main(path):
    """Checks `summary.json`."""
    with open(path) as file:
        summary = json.load(file)
    validation, baselines, mask = (summary[k] for k in ("validation", "baselines", "mask"))
    cleared = mask["size"] / 2
    blocks = [s for name, s in mask["sparsity_per_block"].items() if name.startswith("block")]
    checks = {
        "image accuracy is at least 0.93": validation["image_accuracy"] >= 0.93,
        "masked-LM loss is 0.8 nats below the unigram baseline's": validation["mlm_loss"]
        < baselines["mlm_unigram_loss"] - 0.8,
        "15 % of the masked words are right": validation["mlm_accuracy"] >= 0.15,
        "two masked words are shown": len(summary["masked_words"]) == 2,
        "half of the mask is cleared": abs(mask["cleared"] - cleared) <= 1,
        "blocks differ in sparsity": len(set(blocks)) == len(blocks),
    }
    print(json.dumps(summary, indent=1))
    for check, holds in checks.items():
        print("ok  " if holds else "FAIL", check)
    return not all(checks.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
