"""What each operation of a compiled program moves and computes, and how long it should take.

A compiled TPU program is a list of fused operations. For each, its text (optimised HLO) gives the
operands and results, their layouts in memory, the operation of the traced step it was made from,
and the cycles that the compiler expects.
"""

import collections
import dataclasses
import itertools
import math
import re

_COMPUTATION = re.compile(r"^(ENTRY )?%([\w.-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%([\w.-]+) = (.*)$")
_NAMES = re.compile(r"%([\w.-]+)")
_ARRAY = re.compile(
    r"\b(pred|[a-z]+\d+)\w*\[([\d,]*)\]"  # the type, and the sizes of the axes
    r"(?:\{([\d,]*)(?::T\(([\d,]+)\))?[^}]*\})?"  # the order of the axes in memory, and the tile
)
_SOURCE = re.compile(r'op_name="([^"]*)"')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CALLED = re.compile(
    r"(?:calls|to_apply|body|branch_computations|true_computation|false_computation)="
    r"(\{[^}]*\}|%[\w.-]+)"
)
_LABELS = re.compile(r"dim_labels=(\w*)_(\w*)->(\w*)")
_ALIASED = re.compile(r"\{(\d+)\}: \((\d+), \{\}\)")  # of output_to_operand_aliasing
_CONTRACTED = re.compile(r"lhs_contracting_dims=\{([\d,]*)\}")
_GROUPS = re.compile(r"(feature|batch)_group_count=(\d+)")

# These read and write nothing when they are reached.
_FREE = frozenset(
    "parameter constant tuple get-tuple-element bitcast after-all replica-id partition-id "
    "custom-call".split()
)
_CALLS = frozenset(("while", "call", "conditional"))
_COLLECTIVES = frozenset(
    "all-reduce all-to-all all-gather reduce-scatter collective-permute".split()
)
# XLA may carry a collective through a chain of fusions that compute something else meanwhile. Each
# of them contains it, with this chain and the number of its channel.
_CHAIN = re.compile(r'channel_id=(\d+).*chain_id="(\d+)"')
# A fused sum of which each device gets its part; only that is sent.
_SCATTERED_SUM = re.compile(r"calls=%all-reduce-scatter\b")


@dataclasses.dataclass
class Work:
    """The work of an operation in one run of its program.

    Attributes:
        source: str, the name of the operation in the traced step; empty if it has none.
        bytes: int, read and written, with the padding of tiles.
        operations: int, floating-point operations of its matrix products and convolutions.
        cycles: int, as the compiler expects; 0 where it gives none.
    """

    source: str = ""
    bytes: int = 0
    operations: int = 0
    cycles: int = 0


def work_of(program):
    """The work of each operation of a program, in a loop multiplied by its iterations.

    Args:
        program: str, optimised HLO.

    Returns:
        list of `Work`.
    """
    computations, entry = _parse(program)
    return list(_run(computations, entry, 1))


def collectives_of(program):
    """The data that a program sends between the replicas, in a loop multiplied by its iterations.

    Args:
        program: str, optimised HLO.

    Returns:
        dict of a kind, such as `all-reduce`, to `count` and `bytes`. The bytes are those of whole
        arrays: of those that are summed, even where a replica gets only a part of the sum, and of
        those that are put together.
    """
    computations, entry = _parse(program)
    found = {}
    for kind, size, times in _sent(computations, entry, 1, set()):
        total = found.setdefault(kind, {"count": 0, "bytes": 0})
        total["count"] += times
        total["bytes"] += times * size
    return found


def size_of(type_, padded=True):
    """The bytes that arrays take in memory.

    Args:
        type_: str, the type of an array, or of a tuple of them, as HLO prints it.
        padded: bool, whether the last two axes in memory are padded to multiples of a tile
            `T(8,128)`, if there is one.

    Returns:
        int.
    """
    return sum(_array_size(*found, padded) for found in _ARRAY.findall(type_))


def _array_size(dtype, sizes, order, tile, padded):
    axes = _integers(sizes)
    if tile and padded:
        tile = _integers(tile)
        axes = [axes[axis] for axis in reversed(_integers(order))]
        axes = [1] * (len(tile) - len(axes)) + axes
        kept, tiled = axes[: -len(tile)], axes[-len(tile) :]
        axes = kept + [-(-size // unit) * unit for size, unit in zip(tiled, tile, strict=True)]
    bits = 8 if dtype == "pred" else int(re.sub(r"\D", "", dtype))
    return math.prod(axes) * bits // 8


# --- the program ----------------------------------------------------------------------------------


@dataclasses.dataclass
class _Instruction:
    type: str
    opcode: str
    operands: list[str]
    argument: str
    attributes: str

    @property
    def called(self):
        """The names of the computations that it calls."""
        return _NAMES.findall(" ".join(_CALLED.findall(self.attributes)))


def _parse(program):
    """(dict of a computation's name to a dict of `_Instruction` by name, the entry's name)."""
    computations, entry, current = {}, "", {}
    for line in program.splitlines():
        if found := _COMPUTATION.match(line):
            current = computations[found[2]] = {}
            entry = found[2] if found[1] else entry
        elif found := _INSTRUCTION.match(line):
            current[found[1]] = _instruction(found[2])
    return computations, entry


def _instruction(text):
    end = _closing(text) if text.startswith("(") else text.index(" ") - 1
    type_, rest = text[: end + 1], text[end + 2 :]
    opcode, rest = rest[: rest.index("(")], rest[rest.index("(") :]
    end = _closing(rest)
    argument = rest[1:end]
    return _Instruction(type_, opcode, _NAMES.findall(argument), argument, rest[end + 1 :])


def _closing(text):
    """The place of the parenthesis that closes the first one."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == ")" and not depth:
            return place
    raise ValueError(f"no parenthesis is closed in {text[:80]!r}")


def _turns(instruction):
    """How often an instruction runs what it calls."""
    trips = _TRIPS.search(instruction.attributes)
    return int(trips[1]) if trips else 1


def _run(computations, name, times):
    """The work of a computation that runs `times` times."""
    instructions = computations[name]
    for instruction in instructions.values():
        if instruction.opcode in _CALLS:
            turns = times * _turns(instruction)
            runs = [list(_run(computations, called, turns)) for called in instruction.called]
            if instruction.opcode == "conditional":  # the longest, as only one of them runs
                runs = [max(runs, key=lambda run: sum(work.bytes for work in run))]
            yield from itertools.chain(*runs)
            continue
        if instruction.opcode in _FREE or instruction.opcode.endswith("-done"):
            continue
        source = _SOURCE.search(instruction.attributes)
        cycles = _CYCLES.search(instruction.attributes)
        yield Work(
            source[1].split(";")[0] if source else "",
            times * _bytes(computations, instructions, instruction),
            times * _operations(computations, instructions, instruction),
            times * int(cycles[1]) if cycles else 0,
        )


# --- collectives ----------------------------------------------------------------------------------


def _sent(computations, name, times, chains):
    """(kind, bytes, times) of each collective of a computation that runs `times` times."""
    instructions = computations[name]

    def given(instruction):
        types = (instructions[name].type for name in instruction.operands)
        return sum(size_of(type_, padded=False) for type_ in types)

    for instruction in instructions.values():
        kind = instruction.opcode.removesuffix("-start")
        if kind in _COLLECTIVES:
            if chain := _CHAIN.search(instruction.attributes):
                if (kind, *chain.groups()) in chains:
                    continue
                chains.add((kind, *chain.groups()))
            size, result = given(instruction), size_of(instruction.type, padded=False)
            if kind == "all-reduce":  # which may convert what it is given
                size = result
            elif kind == "all-gather":  # the result of one that is only started holds its operands
                size = result - (size if instruction.opcode != kind else 0)
            yield kind, size, times
        elif _SCATTERED_SUM.search(instruction.attributes):
            yield "reduce-scatter", given(instruction), times
        else:
            for called in instruction.called:
                yield from _sent(computations, called, times * _turns(instruction), chains)


# --- bytes ----------------------------------------------------------------------------------------


def _bytes(computations, instructions, instruction):
    """Bytes that an operation reads and writes, as XLA's cost analysis counts them."""
    sizes = [size_of(instructions[name].type) for name in instruction.operands]
    result, opcode = size_of(instruction.type), instruction.opcode
    if opcode == "fusion":
        [called] = instruction.called
        places, carried = set(range(len(sizes))), 0
        if any(_CHAIN.search(one.attributes) for one in computations[called].values()):
            # What the chain holds and only passes on is not moved here.
            aliased = _ALIASED.findall(instruction.attributes)
            results = _ARRAY.findall(instruction.type)
            carried = sum(_array_size(*results[int(output)], True) for output, _ in aliased)
            places -= {int(operand) for _, operand in aliased}
        return result - carried + sum(_read(computations, called, place) for place in places)
    if opcode == "slice-start":  # its result holds its operand, too
        return 2 * (result - sum(sizes))
    if opcode.endswith("-start"):
        return 2 * sum(sizes)
    if opcode in ("slice", "dynamic-slice"):
        return 2 * result
    if opcode == "dynamic-update-slice":
        return 2 * sizes[1]
    if opcode == "gather":
        return 2 * result + sizes[1]
    if opcode == "scatter":  # updated rows are read and written
        return 3 * sizes[2] + sizes[1]
    return result + sum(sizes)


def _read(computations, name, place):
    """Bytes that a fused computation reads of its argument at an index."""
    instructions = computations[name]
    [parameter] = [
        key
        for key, instruction in instructions.items()
        if instruction.opcode == "parameter" and instruction.argument == str(place)
    ]
    whole, read, shared = size_of(instructions[parameter].type), 0, False
    for user in instructions.values():
        for operand in (at for at, key in enumerate(user.operands) if key == parameter):
            if user.opcode == "fusion":
                read += _read(computations, user.called[0], operand)
            elif user.opcode in ("slice", "dynamic-slice", "gather") and operand == 0:
                read += size_of(user.type)
            elif user.opcode == "dynamic-update-slice" and operand == 0:
                read += size_of(instructions[user.operands[1]].type)
            elif user.opcode == "scatter" and operand == 0:
                read += size_of(instructions[user.operands[2]].type)
            elif not shared:  # all others share one read
                shared, read = True, read + whole
    return min(read, whole)


# --- floating-point operations --------------------------------------------------------------------


def _operations(computations, instructions, instruction):
    """Floating-point operations of the products that an instruction is or holds."""
    if instruction.opcode == "fusion":
        inner = computations[instruction.called[0]]
        return sum(_operations(computations, inner, one) for one in inner.values())
    if instruction.opcode not in ("dot", "convolution"):
        return 0
    left, right = (_sizes(instructions[name].type) for name in instruction.operands)
    result = _sizes(instruction.type)
    if instruction.opcode == "dot":
        contracted = _integers(_CONTRACTED.search(instruction.attributes)[1])
        return 2 * math.prod(result) * math.prod(left[axis] for axis in contracted)
    return 2 * _products(instruction.attributes, left, right, result)


def _products(attributes, left, right, result):
    """The number of multiplications in a convolution, without those by its padding."""
    labels = _LABELS.search(attributes).groups()
    inputs, kernel, outputs = (
        dict(zip(names, sizes, strict=True))
        for names, sizes in zip(labels, (left, right, result), strict=True)
    )
    groups = collections.defaultdict(
        lambda: 1, {name: int(count) for name, count in _GROUPS.findall(attributes)}
    )
    count = inputs["f"] // groups["feature"] * outputs["f"] * (inputs["b"] // groups["batch"])
    window = dict(
        re.findall(r"(\w+)=([\dx_-]+)", attributes.partition("window={")[2].split("}")[0])
    )
    for place, axis in enumerate(sorted(name for name in inputs if name.isdigit())):

        def option(name, default, place=place):
            return window[name].split("x")[place] if name in window else default

        stride, spread = int(option("stride", 1)), int(option("rhs_dilate", 1))
        gap = int(option("lhs_dilate", 1))
        first = -int(option("pad", "0_0").split("_")[0])
        count *= sum(
            0 <= at <= (inputs[axis] - 1) * gap and at % gap == 0
            for output in range(outputs[axis])
            for at in (first + output * stride + k * spread for k in range(kernel[axis]))
        )
    return count


def _sizes(type_):
    return _integers(_ARRAY.search(type_)[2])


def _integers(text):
    return [int(number) for number in text.split(",") if number]
