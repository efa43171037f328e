"""How time and memory grow with what they depend on: whether anything grows faster than it must.

    python -m benchmarks.growth [--only=batch,length,...] [--rounds=5] [--sizes=4] [--output=FILE]

Each quantity is measured at sizes that double, in turns in one process (except replicas, where each
number has a process of its own). The memory of steps is measured in other processes, by
TensorFlow's allocator: the most that a network, its optimiser and a step hold at one time. The
exponent is the slope of a line through the logarithms, by least squares. Times:

    batch       a joint step, against the images and texts in it
    length      against the tokens of a text, with few images; attention is quadratic
    depth       against blocks
    width       against the width of the encoder, with heads of 64
    replicas    against logical CPUs, each with as many examples; all share this machine's cores
    refresh     a refresh of the masks (Algorithm 1), against entries of the encoder
    checkpoint  saving one, against parameters
    start       tracing of the joint step, against blocks

"at most" is the exponent that need not be exceeded; for a checkpoint, also that of copying and
writing as many bytes in the same run. A tenth more is allowed for noise.
"""

import argparse
import dataclasses
import functools
import gc
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from benchmarks.mask_refresh import encoder_shapes, marked_by, selection_of
from benchmarks.speed_table import aligned
from benchmarks.steps import clear_half, compiled_trainer, in_turns, random_batch
from keras_vitbert.configs.loading import load_config
from keras_vitbert.configs.merges import Merge
from keras_vitbert.merging import get_merge
from keras_vitbert.model.flops import encoder_flops
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.runs import checkpoints

TOLERANCE = 0.1
_BASE = {
    "num_layers": 4,
    "num_heads": 4,
    "hidden_dim": 256,
    "intermediate_dim": 1024,
    "image_size": 112,
    "patch_size": 16,
    "num_classes": 100,
    "vocabulary_size": 8_000,
    "max_sequence_length": 128,
}


@dataclasses.dataclass(frozen=True)
class Growth:
    """One quantity at several sizes.

    Attributes:
        what: str, `time` or `memory` of what, against what.
        unit: str, `s` or `GB`.
        sizes: list of numbers, what it is measured against.
        values: list of float.
        at_most: float, the exponent expected at most.
        note: str.
    """

    what: str
    unit: str
    sizes: list[float]
    values: list[float]
    at_most: float
    note: str = ""

    @property
    def exponent(self):
        """The slope of the logarithms."""
        return exponent(self.sizes, self.values)

    @property
    def passes(self):
        """Whether it grows no faster than it must."""
        return self.exponent <= self.at_most + TOLERANCE

    def cells(self):
        """The row as it is shown: list of str."""
        return [
            self.what,
            ", ".join(_short(size) for size in self.sizes),
            ", ".join(f"{value:.3g}" for value in self.values) + f" {self.unit}",
            f"{self.exponent:.2f}",
            f"{self.at_most:.3g}",
            "yes" if self.passes else "no",
        ]


def exponent(sizes, values):
    """The `a` of `values = c sizes**a` by least squares of the logarithms.

    Args:
        sizes, values: sequences of numbers above 0, at least two of them different.
    """
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in values]
    middle = statistics.fmean(x)
    return sum((a - middle) * b for a, b in zip(x, y, strict=True)) / sum(
        (a - middle) ** 2 for a in x
    )


def formatted(growths):
    """The table, with notes below: str."""
    header = ("what", "sizes", "measured", "exponent", "at most", "pass")
    notes = [f"{growth.what}: {growth.note}" for growth in growths if growth.note]
    return "\n".join(aligned(header, [growth.cells() for growth in growths]) + notes)


def _short(number):
    return f"{number / 1e6:.3g} M" if number >= 1e5 else f"{number:g}"


@dataclasses.dataclass(frozen=True)
class _Step:
    """A joint step of some size."""

    size: int
    model: dict[str, int]
    images: int
    texts: int
    replicas: int = 0  # 0: without a strategy


def _batch_steps(count):
    return [_Step(5 * n, {}, 4 * n, n) for n in _doubled(2, count)]


def _length_steps(count):
    return [_Step(n, {"max_sequence_length": n}, 1, 4) for n in _doubled(64, count)]


def _depth_steps(count):
    return [_Step(n, {"num_layers": n}, 8, 2) for n in _doubled(2, count)]


def _width_steps(count):
    return [_Step(n, _width(n), 8, 2) for n in _doubled(128, count)]


def _replica_steps(count):
    return [_Step(n, {}, 4, 1, n) for n in _doubled(1, count)]


def _doubled(first, count):
    return [first << k for k in range(count)]


def _width(n):
    return {"hidden_dim": n, "num_heads": n // 64, "intermediate_dim": 4 * n}


# A function of the number of sizes, and the largest exponent of its operations.
STEPS: dict[str, tuple[Callable[[int], list[_Step]], float]] = {
    "batch": (_batch_steps, 1),
    "length": (_length_steps, 2),
    "depth": (_depth_steps, 1),
    "width": (_width_steps, 2),
    "replicas": (_replica_steps, 1),
}
OTHERS = ("refresh", "checkpoint", "start")


def _config(model):
    values = {f"model.{field}": value for field, value in (_BASE | model).items()}
    return load_config("paper:sample").with_sizes().with_values(values)


def _trainer(model):
    """A compiled trainer; its masks are as at the end of training."""
    config = _config(model)
    merge = get_merge(Merge(name="mask"))
    trainer = compiled_trainer(
        build_network(config.model.to_dict(), dtype="float32"), merge, config
    )
    clear_half(merge)
    return trainer


def _built(asked):
    """A callable with an ignored argument that runs a step of a size and waits for it."""
    batch = random_batch(_config(asked.model).model, asked.images, asked.texts)
    if not asked.replicas:
        step = tf.function(_trainer(asked.model).train_step)
        return lambda _: step(batch)["gradient_norm"].numpy()
    devices = [f"CPU:{number}" for number in range(asked.replicas)]
    strategy = tf.distribute.MirroredStrategy(devices)
    with strategy.scope():
        trainer = _trainer(asked.model)

    @tf.function
    def distributed():
        norms = strategy.run(lambda: trainer.train_step(batch)["gradient_norm"])
        return strategy.experimental_local_results(norms)[0]

    return lambda _: distributed().numpy()


def step_times(name, which, rounds):
    """A step's time: `Growth`.

    Args:
        name: str, of `STEPS`.
        which: slice of its sizes.
        rounds: int.
    """
    make, at_most = STEPS[name]
    steps = make(which.stop)[which]
    values = _medians({step.size: _built(step) for step in steps}, rounds)
    sizes = [step.size for step in steps]
    return Growth(f"time of a step against {name}", "s", sizes, values, at_most, _note(name, steps))


def step_memory(name, which):
    """The most memory of a network, its optimiser and its step: `Growth`.

    Args:
        name: str, of `STEPS`.
        which: slice of its sizes.
    """
    make, at_most = STEPS[name]
    steps, values = make(which.stop)[which], []
    for step in steps:
        gc.collect()
        tf.config.experimental.reset_memory_stats("CPU:0")
        before = tf.config.experimental.get_memory_info("CPU:0")["current"]
        run = _built(step)
        for _ in range(2):
            run(None)
        peak = tf.config.experimental.get_memory_info("CPU:0")["peak"]
        values.append((peak - before) / 1e9)
        del run
    sizes = [step.size for step in steps]
    return Growth(f"memory of a step against {name}", "GB", sizes, values, at_most)


def _note(name, steps):
    """The fraction of the operations that grows faster than the rest."""
    if name != "length":
        return ""
    shares = []
    for step in (steps[0], steps[-1]):
        backbone = argparse.Namespace(**_BASE | step.model)
        # For a sequence of one token, nearly all operations are those of kernels.
        kernels = step.size * encoder_flops(backbone, 1, 1)
        shares.append(1 - kernels / encoder_flops(backbone, step.size, step.size))
    return "attention's products are {:.0%} and {:.0%} of the blocks' at both ends".format(*shares)


def refresh_times(count, rounds):
    """The time of a refresh of the masks: `Growth`."""
    size = {"num_layers": 1, "hidden_dim": 768, "intermediate_dim": 3072}
    functions = {}
    for layers in _doubled(1, count):
        shapes = encoder_shapes({**size, "num_layers": layers})
        select, total = selection_of(shapes)
        functions[total] = lambda _, select=select: marked_by(select())
    values = _medians(functions, rounds)
    return Growth("time of a mask refresh against entries", "s", list(functions), values, 1)


def checkpoint_times(count, rounds):
    """The time of saving a checkpoint, beside that of copying and writing as many bytes: `Growth`.

    Both take fresh memory for a copy and for the pages of a new file, while the old file exists.
    Where memory comes from the host of a virtual machine, that alone may be what grows.
    """
    functions, sizes = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for layers in _doubled(2, count):
            trainer = _trainer({**_width(512), "num_layers": layers, "vocabulary_size": 1_000})
            save = functools.partial(checkpoints.save, f"{folder}/{layers}", trainer, 1)
            functions[f"saved {layers}"] = lambda _, save=save: save()
            sizes.append(trainer.network.count_params())
            state = np.ones((3, sizes[-1]), np.float32)  # weights and both moments
            bare = functools.partial(_copy_and_write, state, f"{folder}/{layers}.bare")
            functions[f"bare {layers}"] = lambda _, bare=bare: bare()
        values = _medians(functions, rounds)
    bare = values[1::2]
    bare_exponent = exponent(sizes, bare)
    note = f"as many bytes copied and written: {', '.join(f'{value:.3g}' for value in bare)} s, "
    note += f"exponent {bare_exponent:.2f}"
    what, at_most = "time of saving a checkpoint against parameters", max(1, bare_exponent)
    return Growth(what, "s", sizes, values[::2], at_most, note)


def _copy_and_write(state, path):
    """Writes a copy of an array into a new file, which then takes the old one's place."""
    state.copy().tofile(f"{path}.new")
    os.replace(f"{path}.new", path)


def start_times(count, rounds):
    """The time of tracing a step: `Growth`."""
    functions = {}
    for layers in _doubled(2, count):
        trainer = _trainer({**_width(64), "num_layers": layers})
        batch = random_batch(_config({}).model, 1, 1)

        def trace(_, trainer=trainer, batch=batch):
            tf.function(trainer.train_step, autograph=False).get_concrete_function(batch)

        functions[layers] = trace
    values = _medians(functions, rounds)
    return Growth("time of tracing a step against blocks", "s", list(functions), values, 1)


def _medians(functions, rounds):
    """Median seconds of functions that take turns, in their order: list of float."""
    found = list(in_turns(functions, None, rounds))
    return [statistics.median(seconds[name] for seconds in found) for name in functions]


def main():
    """Runs the benchmark; returns the exit status."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    names = (*STEPS, *OTHERS)
    parser.add_argument("--only", default=",".join(names), help="comma-separated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, default=4, help="of each")
    parser.add_argument("--output", default="", help="a file for rows as JSON lines")
    # What this process does, and from which size on.
    parser.add_argument("--alone", default="", help=argparse.SUPPRESS)
    parser.add_argument("--begin", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.alone:
        print("\n" + json.dumps(dataclasses.asdict(_alone(asked))))
        return 0
    wanted = asked.only.split(",")
    if unknown := set(wanted) - set(names):
        parser.error(
            f"--only: unknown {', '.join(sorted(unknown))}; choose from {', '.join(names)}"
        )
    parts = [(part, name) for part in ("time", "memory") for name in wanted]
    growths = [
        _measured(part, name, asked) for part, name in parts if part == "time" or name in STEPS
    ]
    print(formatted(growths))
    if asked.output:
        with open(asked.output, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(dataclasses.asdict(growth)) + "\n" for growth in growths)
    return int(not all(growth.passes for growth in growths))


def _measured(part, name, asked):
    """Measures in a process of its own: `Growth`."""
    print(f"{part} {name} ...", file=sys.stderr, flush=True)
    if name != "replicas":
        return _in_process(part, name, asked, 0, asked.sizes)
    # Sums over 2 and over 4 devices do not work together in one process.
    each = [_in_process(part, name, asked, k, k + 1) for k in range(asked.sizes)]
    values = [growth.values[0] for growth in each]
    return dataclasses.replace(each[0], sizes=[g.sizes[0] for g in each], values=values)


def _in_process(part, name, asked, begin, end):
    command = [sys.executable, "-m", "benchmarks.growth", f"--alone={part}:{name}"]
    command += [f"--rounds={asked.rounds}", f"--sizes={end}", f"--begin={begin}"]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}
    if part == "memory":  # counts tensors, as on GPUs
        environment["TF_CPU_ALLOCATOR_USE_BFC"] = "1"
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{part} {name}: failed with status {done.returncode}")
    return Growth(**json.loads(done.stdout.splitlines()[-1]))


def _alone(asked):
    part, _, name = asked.alone.partition(":")
    which = slice(asked.begin, asked.sizes)
    if name == "replicas":
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * 2 ** (asked.sizes - 1),
        )
    if part == "memory":
        return step_memory(name, which)
    if name in STEPS:
        return step_times(name, which, asked.rounds)
    functions = {"refresh": refresh_times, "checkpoint": checkpoint_times, "start": start_times}
    return functions[name](asked.sizes, asked.rounds)


if __name__ == "__main__":
    sys.exit(main())
