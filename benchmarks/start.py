"""How long a run takes to begin: the sample's first line and first step, and base's first step.

    python -m benchmarks.start [--size=base] [--runs=3] [--images=8] [--texts=1] [--dtype=float32]

The sample's data are prepared beforehand. Each of its runs is a new process, which is killed after
its first finished step. The first step of the base model is timed in this process, starting from a
built network: tracing and one step, less the median of later steps.
"""

import re
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.speed_table import Row, command, timed
from benchmarks.steps import compiled_step, compiled_trainer, paper_config, random_batch

FIRST_LINE, FIRST_STEP = 2.0, 10.0  # seconds, at most
_PRETRAIN = [sys.executable, "-m", "keras_vitbert.pretrain"]


def rows(size="base", runs=3, images=8, texts=1, dtype="float32") -> list[Row]:
    """Times `runs` starts of the sample, none for 0, and one of a model."""
    config = paper_config(size)
    batch = random_batch(config.model, images, texts)
    step = timed(compiled_step(compiled_trainer(config, dtype), batch))
    first, later = step(), statistics.median(step() for _ in range(3))
    note = f"the first {first:.1f} s, later ones {later:.2f} s"
    what = f"first step more than a later one, {size}, {dtype}"
    return [*(_of_sample(runs) if runs else []), Row(what, first - later, note=note)]


def _of_sample(runs):
    subprocess.run([sys.executable, "-m", "pipelines.sample"], check=True, capture_output=True)
    lines, steps, helps = [], [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            run = [*_PRETRAIN, "--config=sample", f"--output_dir={folder}/run"]
            line, step = _watch(run, rb"step [1-9][\d,]* of ")
        lines.append(line)
        steps.append(step)
        helps.append(_watch([*_PRETRAIN, "--help"])[1])
    return [
        Row("start of the sample: first line", statistics.median(lines), at_most=FIRST_LINE),
        Row("start of the sample: first step", statistics.median(steps), at_most=FIRST_STEP),
        Row("pretrain --help, all of it", statistics.median(helps), at_most=FIRST_LINE),
    ]


def _watch(line: list[str], shows: bytes = b"") -> tuple[float, float]:
    """Seconds to a command's first output, and until it shows something, which ends it."""
    began, first, text = time.monotonic(), 0.0, b""
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        while block := process.stdout.read1():
            first = first or time.monotonic() - began
            text += block
            if shows and re.search(shows, text):
                process.kill()
                return first, time.monotonic() - began
    if shows or process.returncode:
        raise RuntimeError(f"{' '.join(line)}: ended with status {process.returncode}")
    return first, time.monotonic() - began


def main() -> None:
    """Runs the benchmark."""
    command(__doc__, rows)


if __name__ == "__main__":
    main()
