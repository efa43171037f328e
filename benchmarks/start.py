"""How long a run takes to begin: the sample's first line and first step, and base's first step.

    python -m benchmarks.start [--size=base] [--runs=3] [--images=8] [--texts=1] [--dtype=float32]

The sample's data are prepared beforehand. Each of its runs is a new process, which is killed after
its first finished step. The first step of the base model is timed in this process, starting from a
built network: tracing and one step, less the median of later steps.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.first_hour import watch
from benchmarks.speed_table import Row
from benchmarks.steps import compiled_step, sized, step_parser
from keras_vitbert.configs.merges import Merge
from keras_vitbert.merging import get_merge

FIRST_LINE, FIRST_STEP = 2.0, 10.0  # seconds, at most
_LATER = 3  # steps that a first one is compared with
# What the base model took in float32 at commit 19f6163: the mean of two runs on two cores (12.9 and
# 11.9). It is to be halved, on one machine.
_BEFORE, _COMMIT = 12.4, "19f6163"


def sample_rows(runs):
    """The rows of the sample and of `--help`: list of `Row`."""
    subprocess.run([sys.executable, "-m", "pipelines.sample"], check=True, capture_output=True)
    command = [sys.executable, "-m", "keras_vitbert.pretrain"]
    lines, steps, helps = [], [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["--config=sample", f"--output_dir={folder}/run"]
            status, _, line, step, _, _ = watch(
                [*command, *arguments], terminal=False, to_step=True
            )
            if step is None:
                raise RuntimeError(f"the sample ended with status {status} before its first step")
        lines.append(line)
        steps.append(step)
        helps.append(watch([*command, "--help"], False)[1])
    return [
        Row("start of the sample: first line", statistics.median(lines), at_most=FIRST_LINE),
        Row("start of the sample: first step", statistics.median(steps), at_most=FIRST_STEP),
        Row("pretrain --help, all of it", statistics.median(helps), at_most=FIRST_LINE),
    ]


def first_step(size, dtype, images, texts):
    """Seconds of the first step of a built network, and of a later one.

    Args:
        size, dtype, images, texts: see the flags.

    Returns:
        (float, float).
    """
    asked = argparse.Namespace(size=size, images=images, texts=texts)
    config, network, batch = sized(asked, dtype)
    step, seconds = compiled_step(network, get_merge(Merge(name="mask")), config), []
    for _ in range(1 + _LATER):
        began = time.perf_counter()
        step(batch)
        seconds.append(time.perf_counter() - began)
    return seconds[0], statistics.median(seconds[1:])


def step_rows(size, dtype, images, texts):
    """The row of the first step of a size: list of one `Row`."""
    first, later = first_step(size, dtype, images, texts)
    note = f"the first {first:.1f} s, later ones {later:.2f} s"
    if (size, dtype) == ("base", "float32"):
        note += f"; {_BEFORE} s at {_COMMIT}, on two cores of some machine"
    return [
        Row(
            f"first step more than a later one, {size}, {dtype}",
            first - later,
            note=note,
        )
    ]


def main():
    """Runs the benchmark."""
    parser = step_parser(__doc__, texts=1)
    parser.add_argument("--dtype", default="float32", help="or mixed_bfloat16")
    parser.add_argument("--runs", type=int, default=3, help="of the sample; 0: none")
    asked = parser.parse_args()
    rows = sample_rows(asked.runs) if asked.runs else []
    for row in [*rows, *step_rows(asked.size, asked.dtype, asked.images, asked.texts)]:
        print(f"{row.what}: {row.ours:.2f} s  {row.note}".rstrip())


if __name__ == "__main__":
    main()
