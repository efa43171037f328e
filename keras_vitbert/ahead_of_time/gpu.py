"""The proof for one GPU: the memory of a run's programs, and the parts that a step needs.

The memory is that of the variables and of the tensors (`lifetimes`). `usable` leaves out of a GPU's
memory what that does not count.
"""

import collections
import math

from keras_vitbert.ahead_of_time.report import (
    GIB,
    aligned,
    bytes_as_text,
    described,
    require_programs,
)
from pipelines.command_line import say

_DRIVER = GIB // 2  # the context of CUDA and its libraries
# The rest is for scratch memory of kernels, and for what TensorFlow rewrites.
_SHARE = 0.8


def usable(gib):
    """The bytes of a GPU's memory that variables and tensors can take, by assumption.

    Args:
        gib: int, the memory that it has.

    Returns:
        int.
    """
    return int((gib * GIB - _DRIVER) * _SHARE)


def prove(subject, sizes, only=()):
    """Finds the fewest parts of a step with which a run fits on one GPU, for several GPUs.

    Args:
        subject: `proof.Subject`, without replicas; its `parts` is the minimum.
        sizes: list of int, GiB.
        only: tuple of str, the programs to look at; all if empty.

    Returns:
        dict, the content of `--json`: `gpus` has for each size `parts` (None if none fit), `part`
        (the images and texts of one), and the `bytes` of each program.

    Raises:
        ValueError: there is no such program.
    """
    import tensorflow as tf

    common = math.gcd(*subject.batch.values())
    choices = [n for n in range(subject.parts, common + 1) if common % n == 0]
    found = collections.defaultdict(dict)  # by parts, and by program
    # Only once: TensorFlow keeps what it has traced, and the variables with it.
    programs = subject.programs(tf.distribute.get_strategy(), {})
    require_programs(only, programs.steps)

    def trace(parts, names):
        programs.trainer.accumulation = parts
        for program in programs.steps:
            if program.name not in found[parts] and (not names or program.name in names):
                say(f"{program.name}: tracing {described(_part(subject, parts))} a part")
                found[parts][program.name] = _memory(program, programs.resident_bytes())

    trace(choices[0], only)
    first = found[choices[0]]
    names, largest = list(first), [max(first, key=lambda name: first[name]["bytes"])]

    def needed(parts, names):
        if any(name not in found[parts] for name in names):
            trace(parts, names)
        return max(found[parts][name]["bytes"] for name in names)

    def fewest(most):
        """Bisects by the largest program, then steps up by all of them."""
        low, high = 0, len(choices)
        while low < high:
            middle = (low + high) // 2
            if needed(choices[middle], largest) <= most:
                high = middle
            else:
                low = middle + 1
        return next((n for n in choices[low:] if needed(n, names) <= most), None)

    gpus = []
    for size in sorted(sizes):
        fitting = fewest(usable(size))
        shown = fitting or choices[-1]
        needed(shown, names)
        gpus.append(
            {
                "gib": size,
                "usable": usable(size),
                "parts": fitting,
                "part": _part(subject, shown),
                "programs": {name: found[shown][name] for name in names},
            }
        )
    return {
        "what": subject.what,
        "batch": subject.batch,
        "variables_bytes": first[names[0]]["variables"],
        "gpus": gpus,
    }


def table(outcome):
    """Formats the outcome as text.

    Args:
        outcome: dict, of `prove`.

    Returns:
        str.
    """
    names = list(outcome["gpus"][0]["programs"])
    rows = [("GPU", "usable", "parts", "a part", *names)]
    for gpu in outcome["gpus"]:
        sizes = [bytes_as_text(gpu["programs"][name]["bytes"]) for name in names]
        parts = str(gpu["parts"]) if gpu["parts"] else "none fits"
        part = described(gpu["part"])
        rows.append((f"{gpu['gib']} GiB", bytes_as_text(gpu["usable"]), parts, part, *sizes))
    return "\n".join(
        [
            f"{outcome['what']} on one GPU",
            f"a step: {described(outcome['batch'])}; variables: "
            f"{bytes_as_text(outcome['variables_bytes'])}",
            "",
            *aligned(rows),
        ]
    )


def _part(subject, parts):
    return {name: count // parts for name, count in subject.batch.items()}


def _memory(program, resident_bytes):
    """The memory that a program takes: variables, arguments and tensors."""
    import tensorflow as tf

    from keras_vitbert.ahead_of_time.lifetimes import peak_of, size_of

    function = tf.function(program.step, autograph=False)
    graph = function.get_concrete_function(program.batch).graph
    peak = peak_of(graph)
    arguments = sum(size_of(tensor) for tensor in graph.inputs)
    return {
        "bytes": resident_bytes + arguments + peak.reserved,
        "variables": resident_bytes,
        "arguments": arguments,
        "tensors": peak.bytes,
        "reserved": peak.reserved,
        "at": peak.operation,
        "largest": dict(list(peak.kinds().items())[:10]),
    }
