"""Times whole runs that are looked into at the default intervals against runs that are not.

    python -m benchmarks.inspection [--rounds=3] [--variant=vitbert_no_kd] [--config.KEY=VALUE ...]

Each round trains the sample config once each way, in processes of their own and in changing order:
with activation maps, pictures of the masks and looks at the gradients as `config.inspection` has
them, and without. Prints the seconds of both, of summary.json, and the median of the ratios of all
rounds. What begins once, tracing among it, is in these numbers, as it is in a user's run.
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
        for looked_into in (True, False) if number % 2 else (False, True):
            flags = [f"--variant={arguments.variant}", *more, *([] if looked_into else OFF)]
            seconds[looked_into] = run(flags)
        ratios.append(seconds[True] / seconds[False])
        print(
            f"round {number + 1}: {seconds[True]:.1f} s looked into, {seconds[False]:.1f} s not, "
            f"ratio {ratios[-1]:.3f}",
            flush=True,
        )
    print(f"median of {len(ratios)} ratios: {statistics.median(ratios):.3f}")


def run(flags):
    """Trains, and returns the seconds that summary.json tells."""
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
