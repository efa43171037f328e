"""How time and memory grow with what they depend on: whether anything grows faster than it must.

    python -m benchmarks.growth [--only=batch,length,...] [--rounds=5] [--sizes=4] [--json]

Each quantity is measured at sizes that double, in turns. The memory of a step is the most that its
network, its optimiser and the step hold at one time, by TensorFlow's allocator. The exponent is the
slope of a line through the logarithms, by least squares:

    batch       a joint step, against the images and texts in it
    length      against the tokens of a text, with few images; attention is quadratic
    depth       against blocks
    width       against the width of the encoder, with heads of 64
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
import os
import statistics
import sys
import tempfile

os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")  # counts tensors, as on GPUs

import numpy as np
import tensorflow as tf

from benchmarks.speed_table import aligned, interleaved, timed
from benchmarks.steps import compiled_step, compiled_trainer, paper_config, random_batch
from keras_vitbert.merging.selection import smallest
from keras_vitbert.runs import checkpoints

TOLERANCE = 0.1
_BASE = {
    "num_layers": 4,
    "num_heads": 4,
    "hidden_dim": 256,
    "intermediate_dim": 1024,
    "image_size": 112,
    "num_classes": 100,
    "vocabulary_size": 8_000,
    "max_sequence_length": 128,
}


@dataclasses.dataclass(frozen=True)
class Growth:
    """One quantity at several sizes."""

    what: str
    unit: str  # `s` or `GB`
    sizes: list[float]
    values: list[float]
    at_most: float  # the exponent expected at most

    @property
    def exponent(self) -> float:
        """The slope of the logarithms."""
        return exponent(self.sizes, self.values)

    @property
    def passes(self) -> bool:
        """Whether it grows no faster than it must."""
        return self.exponent <= self.at_most + TOLERANCE

    def cells(self) -> list[str]:
        """The row as it is shown."""
        return [
            self.what,
            ", ".join(f"{n / 1e6:.3g} M" if n >= 1e5 else f"{n:g}" for n in self.sizes),
            ", ".join(f"{value:.3g}" for value in self.values) + f" {self.unit}",
            f"{self.exponent:.2f}",
            f"{self.at_most:.3g}",
            "yes" if self.passes else "no",
        ]


def exponent(sizes, values) -> float:
    """The `a` of `values = c sizes**a` by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def _width(n):
    return {"hidden_dim": n, "num_heads": n // 64, "intermediate_dim": 4 * n}


# What a step is measured against: the smallest size, the exponent of its operations, and the
# changes to the model, the images and the texts of a size.
STEPS = {
    "batch": (10, 1, lambda n: ({}, n * 4 // 5, n // 5)),
    "length": (64, 2, lambda n: ({"max_sequence_length": n}, 1, 4)),
    "depth": (2, 1, lambda n: ({"num_layers": n}, 8, 2)),
    "width": (128, 2, lambda n: (_width(n), 8, 2)),
}


def _trainer(model):
    return compiled_trainer(paper_config("sample", **_BASE | model))


def _steps(name, sizes, rounds):
    """The growth of a step's time and of its memory."""
    first, at_most, of = STEPS[name]
    sizes, runs, memory = [first << k for k in range(sizes)], {}, []
    for size in sizes:
        model, images, texts = of(size)
        gc.collect()
        tf.config.experimental.reset_memory_stats("CPU:0")
        before = tf.config.experimental.get_memory_info("CPU:0")["current"]
        trainer = _trainer(model)
        batch = random_batch(paper_config("sample", **_BASE | model).model, images, texts)
        run = compiled_step(trainer, batch)
        for _ in range(2):
            run()
        peak = tf.config.experimental.get_memory_info("CPU:0")["peak"]
        memory.append((peak - before) / 1e9)
        runs[size] = run
    times = _medians(runs, rounds)
    return [
        Growth(f"time of a step against {name}", "s", sizes, times, at_most),
        Growth(f"memory of a step against {name}", "GB", sizes, memory, at_most),
    ]


def _refresh(sizes, rounds):
    """The growth of a mask refresh, which finds a tenth of the entries."""
    runs = {}
    for layers in (1 << k for k in range(sizes)):
        shapes = [(768, 768)] * 4 + [(768, 3072), (3072, 768)] + [(768,)] * 9 + [(3072,)]
        gradients = [tf.random.normal(shape, seed=1) for shape in shapes * layers]
        total = sum(int(tf.size(gradient)) for gradient in gradients)

        @tf.function
        def select(gradients=gradients, count=total // 10):
            found = smallest(gradients, [tf.ones_like(g, tf.bool) for g in gradients], count)
            return tf.add_n([tf.math.count_nonzero(marked) for marked in found])

        runs[total] = lambda select=select: select().numpy()
    what = "time of a mask refresh against entries"
    return [Growth(what, "s", list(runs), _medians(runs, rounds), 1)]


def _checkpoint(sizes, rounds):
    """The growth of saving a checkpoint, and of copying and writing as many bytes.

    Both take fresh memory for a copy and for the pages of a new file, while the old file exists.
    Where memory comes from the host of a virtual machine, that alone may be what grows.
    """
    saves, bare = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for layers in (2 << k for k in range(sizes)):
            trainer = _trainer({**_width(512), "num_layers": layers, "vocabulary_size": 1_000})
            count = trainer.network.count_params()
            saves[count] = functools.partial(_save, f"{folder}/{layers}", trainer)
            state = np.ones((3, count), np.float32)  # weights and both moments
            bare[-count] = functools.partial(_copy_and_write, state, f"{folder}/{layers}.bare")
        times = _medians(saves | bare, rounds)
    least = Growth("of copying and writing as many bytes", "s", list(saves), times[sizes:], np.inf)
    what, at_most = "time of saving a checkpoint against parameters", max(1, least.exponent)
    return [Growth(what, "s", list(saves), times[:sizes], at_most), least]


def _save(folder, trainer):
    checkpoints.write(folder, checkpoints.snapshot(trainer), keep=1)


def _copy_and_write(state, path):
    """Writes a copy of an array into a new file, which then takes the old one's place."""
    state.copy().tofile(f"{path}.new")
    os.replace(f"{path}.new", path)


def _start(sizes, rounds):
    """The growth of tracing a step."""
    runs, batch = {}, random_batch(paper_config("sample", **_BASE).model, 1, 1)
    for layers in (2 << k for k in range(sizes)):
        trainer = _trainer({**_width(64), "num_layers": layers})

        def trace(trainer=trainer):
            tf.function(trainer.train_step, autograph=False).get_concrete_function(batch)

        runs[layers] = trace
    what = "time of tracing a step against blocks"
    return [Growth(what, "s", list(runs), _medians(runs, rounds), 1)]


def _medians(runs, rounds):
    """The median seconds of callables that take turns, in their order."""
    found = interleaved({name: timed(run) for name, run in runs.items()}, rounds)
    return [statistics.median(found[name]) for name in runs]


KINDS = {
    **{name: functools.partial(_steps, name) for name in STEPS},
    "refresh": _refresh,
    "checkpoint": _checkpoint,
    "start": _start,
}


def main() -> int:
    """Runs the benchmark; returns the exit status."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--only", default=",".join(KINDS), help="comma-separated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, default=4, help="of each")
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    asked = parser.parse_args()
    wanted = asked.only.split(",")
    if unknown := set(wanted) - set(KINDS):
        parser.error(f"--only: unknown {', '.join(sorted(unknown))}; of {', '.join(KINDS)}")
    growths = []
    for name in wanted:
        print(f"{name} ...", file=sys.stderr, flush=True)
        growths += KINDS[name](asked.sizes, asked.rounds)
    if asked.json:
        print(json.dumps([dataclasses.asdict(growth) for growth in growths]))
    else:
        header = ("what", "sizes", "measured", "exponent", "at most", "pass")
        print("\n".join(aligned(header, [growth.cells() for growth in growths])))
    return int(not all(growth.passes for growth in growths))


if __name__ == "__main__":
    sys.exit(main())
