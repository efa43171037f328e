"""What other merges cost compared with the plain sum, in one process, in turns.

    python -m benchmarks.merges [--merges=mask,pcgrad,nash] [--size=base] [--images=8] [--texts=2]
                                [--rounds=9] [--dtype=float32] [--per_block] [--whole] [--memory]

A merge takes a hundredth of a step, and steps differ by more. So the merging alone is timed, on
random gradients of the network's shapes, and reported relative to a step: 1 + (its time - the sum's
time) / the time of a step with `sum`. The batch is smaller than the paper's, so a merge takes a
larger share of the step than at full size.

`--whole` times whole steps instead, which share one network: for `famo`, which runs the network
once more. `--memory` runs a few steps of each merge in a process of its own, and prints the most
memory that the process held.
"""

import gc
import resource
import statistics
import subprocess
import sys

import tensorflow as tf

from benchmarks.steps import clear_half, compiled_step, in_turns, sized, step_parser
from keras_vitbert.configs.merges import ENTRIES, WEIGHTINGS, Merge
from keras_vitbert.merging import get_merge

_STEPS = 3  # of `sum`, or of a process whose memory is measured


def main():
    """Runs the benchmark."""
    parser = step_parser(__doc__, texts=2)
    parser.add_argument("--merges", default=",".join((*ENTRIES, *WEIGHTINGS)))
    parser.add_argument("--dtype", default="float32", help="or mixed_bfloat16")
    parser.add_argument("--per_block", action="store_true", help="weights of each block")
    parser.add_argument("--whole", action="store_true", help="whole steps")
    parser.add_argument("--memory", action="store_true", help="memory in place of time")
    parser.add_argument("--alone", default="", help="a merge whose memory this process looks at")
    arguments = parser.parse_args()
    if arguments.alone:
        print(f"{_memory(arguments):.0f}")
        return
    names = [name for name in arguments.merges.split(",") if name != "sum"]
    print(
        f"{arguments.size}, {arguments.dtype}, {arguments.images} images and {arguments.texts} "
        "texts a step"
    )
    if arguments.memory:
        for name in ("sum", *names):
            command = [sys.executable, "-m", "benchmarks.merges", *sys.argv[1:], f"--alone={name}"]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            print(f"{name:<26}{int(done.stdout.split()[-1]):>8,} MB at most", flush=True)
        return
    config, network, batch = sized(arguments, arguments.dtype)
    total = compiled_step(network, _merge("sum", arguments), config)
    if arguments.whole:
        for name in names:
            other = compiled_step(network, _merge(name, arguments), config)
            rounds = list(in_turns({"sum": total, name: other}, batch, arguments.rounds))
            _tell(name, [seconds[name] / seconds["sum"] for seconds in rounds])
            del other
            gc.collect()
        return
    rounds = in_turns({"sum": total}, batch, _STEPS)
    step = statistics.median(seconds["sum"] for seconds in rounds)
    print(f"the sum's step: {step:.2f} s", flush=True)
    gradients = _random_gradients(network)
    total = _compiled_merge(network, _merge("sum", arguments))
    for name in names:
        other = _compiled_merge(network, _merge(name, arguments))
        rounds = list(in_turns({"sum": total, name: other}, gradients, arguments.rounds))
        _tell(name, [1 + (seconds[name] - seconds["sum"]) / step for seconds in rounds])


def _tell(name, ratios):
    middle = statistics.median(ratios)
    print(f"{name:<26}{middle:.3f} ({min(ratios):.3f} to {max(ratios):.3f})", flush=True)


def _random_gradients(network):
    """Random gradients of text and image; None where a loss does not reach."""
    backbone, generator = network.backbone, tf.random.Generator.from_seed(0)
    shared = {variable.path for variable in backbone.shared_variables}

    def of(other):
        return [
            generator.normal(variable.shape)
            if variable.path in shared or not variable.path.startswith(other)
            else None
            for variable in network.trainable_variables
        ]

    return of("image"), of(("text", "mlm", "nsp"))


def _compiled_merge(network, merge):
    """A callable that merges a pair of gradients and waits for it."""
    merge.make_state(network.backbone.shared_variables)
    clear_half(merge)
    losses = tf.constant(3.0), tf.constant(2.0)

    @tf.function
    def merged(text, image):
        found = merge.merge(text, image, losses, tf.constant(7))
        merge.keep(found.state)
        # This needs all gradients, and keeps none of them.
        return tf.add_n([tf.reshape(g, [-1])[0] for g in found.gradients])

    return lambda gradients: merged(*gradients).numpy()


def _merge(text, arguments):
    """The merge named by a text such as `mask:mask_rank=image`; per block where asked for."""
    name, *options = text.split(":")
    values = dict(option.split("=") for option in options)
    per_block = arguments.per_block and name != "sum"
    return get_merge(Merge(name=name, per_block=per_block, **values))


def _memory(arguments):
    """The most memory of this process in some steps, in MB."""
    config, network, batch = sized(arguments, arguments.dtype)
    step = compiled_step(network, _merge(arguments.alone, arguments), config)
    for _ in range(_STEPS):
        step(batch)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()
