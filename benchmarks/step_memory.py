"""What accumulation and recomputation save and cost: the memory and the time of a step.

    python -m benchmarks.step_memory [--sizes=base,large] [--images=8] [--texts=8] [--rounds=3]
                                     [--settings=1,2,4,8,remat,8+remat] [--dtype=float32]
                                     [--together] [--layers=N]

A setting is a number of parts, `remat`, or both with a `+`. Each is a process of its own.
TensorFlow's allocator counts the tensors of a step, on CPU the allocator for GPUs. The passes of
text and images are in turn, as on a GPU; with `--together` they are not.
"""

import functools
import os
import statistics
import subprocess
import sys

import tensorflow as tf

from benchmarks.steps import compiled_trainer, in_turns, sized, step_parser
from keras_vitbert.configs.merges import Merge
from keras_vitbert.merging import get_merge
from keras_vitbert.training.joint_trainer import JointTrainer


def main():
    """Runs the benchmark."""
    parser = step_parser(__doc__, texts=8, rounds=3)
    parser.add_argument("--sizes", default="base,large")
    parser.add_argument("--layers", type=int, default=0, help="blocks, if not those of the size")
    parser.add_argument("--settings", default="1,2,4,8,remat,8+remat")
    parser.add_argument("--dtype", default="float32", help="or mixed_bfloat16")
    parser.add_argument("--together", action="store_true", help="both passes at once")
    parser.add_argument("--alone", default="", help="the setting that this process measures")
    arguments = parser.parse_args()
    if arguments.alone:
        print(*_measured(arguments))
        return
    print(f"{arguments.dtype}, {arguments.images} images and {arguments.texts} texts a step")
    environment = {**os.environ, "TF_CPU_ALLOCATOR_USE_BFC": "1"}
    for size in arguments.sizes.split(","):
        first = None
        for setting in arguments.settings.split(","):
            command = [sys.executable, "-m", "benchmarks.step_memory", *sys.argv[1:]]
            command += [f"--size={size}", f"--alone={setting}"]
            done = subprocess.run(
                command, check=True, capture_output=True, text=True, env=environment
            )
            before, tensors, seconds = map(float, done.stdout.split()[-3:])
            first = first or seconds
            print(
                f"{size:<8}{setting:<10}{before / 1e9:5.2f} GB before a step, {tensors / 1e9:5.2f} "
                f"GB more in it; {seconds / first:.2f} times the first setting's time",
                flush=True,
            )


def _measured(arguments):
    """Bytes before a step, its tensors' peak, and seconds of a step."""
    device = (tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU"))[0]
    layers = {"num_layers": arguments.layers} if arguments.layers else {}
    config, network, batch = sized(arguments, arguments.dtype, **layers)
    *parts, last = arguments.alone.split("+")
    remat = last == "remat"
    parts = int((parts or ["1"])[0] if remat else last)
    trainer = compiled_trainer(
        network,
        get_merge(Merge(name="mask")),
        config,
        functools.partial(JointTrainer, accumulation=parts, remat=remat),
    )
    if not arguments.together:
        trainer.as_on_gpu()
    step = tf.function(trainer.train_step, autograph=False)

    def run(batch):
        step(batch)["gradient_norm"].numpy()

    run(batch)
    tf.config.experimental.reset_memory_stats(device.name)
    before = tf.config.experimental.get_memory_info(device.name)["current"]
    rounds = list(in_turns({"step": run}, batch, arguments.rounds))
    most = tf.config.experimental.get_memory_info(device.name)["peak"]
    return before, most - before, statistics.median(r["step"] for r in rounds)


if __name__ == "__main__":
    main()
