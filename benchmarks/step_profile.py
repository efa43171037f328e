"""Where the time of a joint step goes on this machine: by kind of operation, and by its name.

    python -m benchmarks.step_profile [--size=base] [--images=8] [--texts=1] [--rounds=2]
                                      [--dtype=mixed_bfloat16] [--dropout=0.1]

Times are those of operations on all threads, from TensorFlow's profiler. On CPU several run at
once, so they add up to more than the step. Blocks and copies of a layer count as one.
"""

import collections
import glob
import re
import tempfile

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks.steps import compiled_trainer, sized, step_parser
from keras_vitbert.configs.merges import Merge
from keras_vitbert.merging import get_merge

_SHOWN = 24


def main():
    """Runs the benchmark."""
    parser = step_parser(__doc__, texts=1, rounds=2)
    parser.add_argument("--dtype", default="mixed_bfloat16")
    parser.add_argument("--dropout", type=float, default=0.1)
    arguments = parser.parse_args()
    config, network, batch = sized(arguments, arguments.dtype, dropout=arguments.dropout)
    trainer = compiled_trainer(network, get_merge(Merge(name="mask")), config)
    step = tf.function(trainer.train_step, autograph=False)
    for _ in range(2):
        step(batch)["gradient_norm"].numpy()
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(arguments.rounds):
                step(batch)["gradient_norm"].numpy()
        [path] = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        with open(path, "rb") as file:
            space = xplane_pb2.XSpace.FromString(file.read())
    _print(space, arguments.rounds)


def _print(space, rounds):
    kinds, names = collections.Counter(), collections.Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name, _, kind = plane.event_metadata[event.metadata_id].name.partition(":")
                if not re.fullmatch(r"\w+", kind) or kind.startswith("__inference"):
                    continue  # of the executor
                kinds[kind] += event.duration_ps
                names[re.sub(r"(?:_\d+)+(?=/|$)", "", name)] += event.duration_ps
    total = sum(kinds.values())
    print(f"{total / rounds / 1e12:.2f} s of operations a step")
    for title, found in (("kind", kinds), ("operation", names)):
        print(f"by {title}:")
        for name, spent in found.most_common(_SHOWN):
            print(f"{spent / total:7.1%}  {name}")


if __name__ == "__main__":
    main()
