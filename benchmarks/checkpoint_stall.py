"""How long training stops for a checkpoint that is written to a slow disk.

    python -m benchmarks.checkpoint_stall [--size=base] [--disk=50] [--images=8] [--texts=2]
                                          [--steps=40]

It runs steps of the joint model, with one checkpoint written beside them and then one that training
waits for, as it used to. `--disk` is in MB/s: the files are written and then held back until that
disk would have them. It prints both stalls, the longest step while the file is written, and the
stalls' share of the time between two checkpoints at the paper's interval.
"""

import os
import statistics
import tempfile
import time
import types

import tensorflow as tf

from benchmarks.steps import clear_half, compiled_trainer, sized, step_parser
from keras_vitbert.configs.merges import Merge
from keras_vitbert.merging import get_merge
from keras_vitbert.runs import checkpoints
from keras_vitbert.runs.checkpoint_writer import CheckpointWriter
from pipelines.files import write_atomically


def main():
    """Runs the benchmark."""
    parser = step_parser(__doc__, texts=2)
    parser.add_argument("--disk", type=float, default=50.0, help="MB/s")
    parser.add_argument("--steps", type=int, default=40, help="beside the checkpoint, at most")
    arguments = parser.parse_args()
    config, network, batch = sized(arguments)
    merge = get_merge(Merge(name="mask"))
    trainer = compiled_trainer(network, merge, config)
    clear_half(merge)
    step = tf.function(trainer.train_step, autograph=False)

    def seconds_of(function, *values):
        began = time.perf_counter()
        function(*values)
        return time.perf_counter() - began

    def run_step():
        step(batch)["gradient_norm"].numpy()

    run_step()
    usual = [seconds_of(run_step) for _ in range(5)]
    middle, interval = statistics.median(usual), config.checkpoint_interval
    workers = types.SimpleNamespace(is_chief=True, wait=lambda: None)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints.write_atomically = _held_back(arguments.disk)
        with CheckpointWriter(folder, 1, workers) as writer:
            stall = seconds_of(writer.save, trainer)
            beside = []
            while writer.is_writing and len(beside) < arguments.steps:
                beside.append(seconds_of(run_step))
            writer.wait()
            awaited = seconds_of(lambda: (writer.save(trainer), writer.wait()))
        size = _bytes_in(folder)
    longest = max(beside) - middle
    print(
        f"{size / 1e9:.2f} GB at {arguments.disk:g} MB/s; a step takes {middle:.2f} s "
        f"({min(usual):.2f} to {max(usual):.2f})"
    )
    share = 100 / (interval * middle)
    print(f"awaited: {awaited:.1f} s, {awaited * share:.3f} % of {interval:,} steps")
    print(f"beside the steps: {stall:.2f} s, {stall * share:.4f} %")
    print(
        f"{len(beside)} steps meanwhile took {statistics.median(beside):.2f} s, the longest "
        f"{longest:.2f} s more than one alone"
    )


def _bytes_in(folder):
    """The bytes of the files in a folder and below."""
    return sum(
        entry.stat().st_size
        for path, _, _ in os.walk(folder)
        for entry in os.scandir(path)
        if entry.is_file()
    )


def _held_back(rate):
    """Writes the end of a checkpoint once a disk of `rate` MB/s would have its tensors."""

    def write(path, text):
        if path.endswith("step.json"):
            time.sleep(_bytes_in(os.path.dirname(path)) / (rate * 1e6))
        write_atomically(path, text)

    return write


if __name__ == "__main__":
    main()
