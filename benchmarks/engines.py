"""Compares the engines: the same run of `pretrain` on TensorFlow and on JAX, in turns.

    python -m benchmarks.engines [--rounds=1] [--flags="--quick --variant=vitbert_no_kd"]

It prints, for each engine and round, the seconds from the command to the end of the first step,
which includes compiling it; the milliseconds of a step after that; and the validation at the end.
Each round has its own seed, and the weights differ between the engines.
"""

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipelines.files import json_object
from pipelines.text_tables import markdown_table

ENGINES = ("tensorflow", "jax")
_STEP = re.compile(r": step (\d+) of ")


def measured(engine, seed, flags, folder):
    """One run.

    Args:
        engine: str, of `ENGINES`.
        seed: int.
        flags: list of str, of `pretrain`.
        folder: str, of the run.

    Returns:
        (float, seconds to the end of the first step; float, milliseconds of a later step; dict, the
        last validation).
    """
    command = [sys.executable, "-m", "keras_vitbert.pretrain", f"--backend={engine}", *flags]
    command += [f"--config.seed={seed}", f"--output_dir={folder}"]
    began, first = time.monotonic(), None
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if first is None and _STEP.search(line.decode(errors="replace")):
                first = time.monotonic() - began
    if process.returncode or first is None:
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")
    summary = json_object((Path(folder) / "summary.json").read_text())
    steps = summary["time"]["steps"] / summary["steps"]
    return first, 1000 * steps, summary["validation"]


def main():
    """Runs both engines in turns, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--flags", default="", help="further flags of pretrain, separated by spaces"
    )
    arguments = parser.parse_args()
    flags, rows = shlex.split(arguments.flags), []
    for number in range(arguments.rounds):
        for engine in ENGINES[:: 1 if number % 2 else -1]:
            with tempfile.TemporaryDirectory() as folder:
                first, step, validation = measured(engine, number, flags, f"{folder}/run")
            found = ", ".join(f"{name} {value:.4f}" for name, value in validation.items())
            rows.append([engine, str(number), f"{first:.1f}", f"{step:.1f}", found])
            print(*rows[-1], flush=True)
    print(
        markdown_table(["engine", "seed", "s to the first step", "ms a step", "at the end"], rows)
    )


if __name__ == "__main__":
    main()
