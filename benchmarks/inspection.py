"""Times whole runs with inspection at the default intervals against runs without.

    python -m benchmarks.inspection [--rounds=3] [--variant=vitbert_no_kd] [--config.KEY=VALUE ...]

Each round trains the sample config once each way, in separate processes and in alternating order:
with activation maps, pictures of the masks and comparisons of the gradients as in
`config.inspection`, and without. It prints the seconds of both, from summary.json, and the median
of the ratios of all rounds. Start-up counts, tracing included, as in a user's run.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

OFF = [
    "--config.inspection.activation_interval=0",
    "--config.inspection.mask_pictures=false",
    "--config.inspection.gradient_interval=0",
]


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variant", default="vitbert_no_kd")
    arguments, more = parser.parse_known_args()
    ratios = []
    for number in range(arguments.rounds):
        seconds = {}
        for inspected in (True, False) if number % 2 else (False, True):
            flags = [f"--variant={arguments.variant}", *more, *([] if inspected else OFF)]
            seconds[inspected] = run(flags)
        ratios.append(seconds[True] / seconds[False])
        print(
            f"round {number + 1}: {seconds[True]:.1f} s with, {seconds[False]:.1f} s without, "
            f"ratio {ratios[-1]:.3f}",
            flush=True,
        )
    print(f"median of {len(ratios)} ratios: {statistics.median(ratios):.3f}")


def run(flags):
    """The seconds that a run takes, from its summary.json.

    Args:
        flags: list of str, of the command.
    """
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "keras_vitbert.pretrain", f"--output_dir={folder}/run", *flags],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with open(os.path.join(folder, "run", "summary.json")) as file:
            return json.load(file)["seconds"]


if __name__ == "__main__":
    main()
