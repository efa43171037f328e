"""How much each part of a step moves and computes: the work of its operations, by their names.

The names are those of the traced step: Keras' layers, with `gradient_tape/` or `gradients/` in
front in the backward pass, and the scopes of the trainer. A fused operation has the name that the
compiler gives it, which is the name of one of the operations it was made from.
"""

import re

from keras_vitbert.ahead_of_time.report import aligned

# An operation belongs to the first part that is found in its name, between slashes.
PARTS = (
    ("teachers", "teachers"),
    ("sums over replicas", "sum_over_replicas"),
    ("update", "update"),
    ("clip", "clip"),
    ("merge", "merge"),
    ("augmentation", "augmentation"),
    ("dropout", r"\w*dropout\w*"),
    ("norms", r"\w*_norm"),
    ("attention", "self_attention_layer"),
    ("MLP", r"feedforward_\w+"),
    ("embeddings", r"\w*embeddings?|embedding_gradients"),
    ("heads", r"\w+_head"),
    ("residual sums", "block"),
    ("losses", "text|image"),
)
OTHER = "other"
_LARGEST = 8
_NUMBERS = re.compile(r"(?:_\d+)+(?=/|$)")  # of `block_3_1` and `Cast_12`
_CALLS = re.compile(r"(?:Stateful)?PartitionedCall/")  # before the names of a function's operations


def unnumbered(name):
    """The name of an operation without the numbers of copies and blocks, and without calls.

    Args:
        name: str.

    Returns:
        str.
    """
    return _CALLS.sub("", _NUMBERS.sub("", name))


def summed(works):
    """Sums work by the names of operations without numbers: all blocks of a model count as one.

    Args:
        works: iterable of `keras_vitbert.ahead_of_time.hlo.Work`.

    Returns:
        dict of a name to a list of bytes, operations and cycles.
    """
    found = {}
    for work in works:
        _add(found, unnumbered(work.source), (work.bytes, work.operations, work.cycles))
    return found


def _add(sums, name, values):
    total = sums.setdefault(name, [0, 0, 0])
    total[:] = map(sum, zip(total, values, strict=True))


def part_of(name):
    """The part of a step that an operation belongs to.

    Args:
        name: str, a key of `summed`.

    Returns:
        str, a name in `PARTS`; for another model its layer, if it has one; else `OTHER`.
    """
    steps = [step for step in name.split("/") if step not in ("gradient_tape", "gradients")]
    for part, pattern in PARTS:
        if any(re.fullmatch(pattern, step) for step in steps):
            return part
    return "/".join(steps[:2]) if len(steps) > 2 else OTHER


def lines_of(name, result):
    """The explanation of a program.

    Args:
        name: str, of the program.
        result: dict, of `compiler.compile_program`.

    Returns:
        list of str, lines of a table and the largest operations.
    """
    work = result["work"]
    parts = {}
    for source, values in work.items():
        _add(parts, part_of(source), values)
    moved, _, cycles = whole = [sum(column) for column in zip(*work.values(), strict=True)]
    rows = [("part", "moved", "of it", "products", "cycles", "of them")]
    for part, values in [*sorted(parts.items(), key=lambda item: -item[1][0]), ("all", whole)]:
        rows.append(
            (
                part,
                f"{values[0] / 1e9:.3g} GB",
                f"{values[0] / max(moved, 1):.1%}",
                f"{values[1] / 1e12:.3g} T",
                f"{values[2] / 1e6:.3g} M",
                f"{values[2] / max(cycles, 1):.1%}",
            )
        )
    largest = sorted(work.items(), key=lambda item: -item[1][0])[:_LARGEST]
    return [
        f"{name}, by the parts of the step:",
        *aligned(rows),
        "the largest operations, of all blocks together:",
        *(
            f"  {values[0] / 1e9:.3g} GB  {source or 'without a name'}"
            for source, values in largest
        ),
    ]
