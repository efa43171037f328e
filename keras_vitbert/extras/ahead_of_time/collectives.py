"""What a compiled program sends between the replicas; XLA's own cost analysis leaves that out."""

import math
import re
from collections.abc import Iterator

_COMPUTATION = re.compile(r"(ENTRY )?%([\w.-]+) .*\{")
_INSTRUCTION = re.compile(
    r"\s+(?:ROOT )?%(?P<name>[\w.-]+) = (?P<type>.+?) (?P<opcode>[a-z][\w-]*)"
    r"\((?P<operands>[^)]*)\)(?P<attributes>.*)"
)
_NAME = re.compile(r"%([\w.-]+)")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+)\w*\[([\d,]*)\]")
_CALLED = re.compile(
    r"(?:calls|to_apply|body|branch_computations|true_computation|false_computation)="
    r"(\{[^}]*\}|%[\w.-]+)"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_KINDS = {"all-reduce", "all-to-all", "all-gather", "reduce-scatter", "collective-permute"}
# XLA may carry a collective through a chain of fusions that compute something else meanwhile. Each
# of them contains it, with this chain and the number of its channel.
_CHAIN = re.compile(r'channel_id=(\d+).*chain_id="(\d+)"')
# A fused sum of which each device gets its part; only that is sent.
_SCATTERED_SUM = re.compile(r"calls=%all-reduce-scatter\b")


def collectives_of(program: str) -> dict[str, dict[str, int]]:
    """The collectives of optimised HLO, those of a loop times its iterations.

    Returns:
        A kind, such as `all-reduce`, to `count` and `bytes`. The bytes are those of whole arrays:
        of those that are summed, even where a replica gets only a part of the sum, and of those
        that are put together.
    """
    computations, entry = _read(program)
    totals: dict[str, dict[str, int]] = {}
    for kind, size, times in _collectives(computations, entry, 1, set()):
        total = totals.setdefault(kind, {"count": 0, "bytes": 0})
        total["count"] += times
        total["bytes"] += times * size
    return totals


_Computation = dict[str, re.Match[str]]  # instructions by name


def _read(program: str) -> tuple[dict[str, _Computation], str]:
    """The computations by name, and the entry's name."""
    computations, entry, current = {}, "", {}
    for line in program.splitlines():
        if match := _COMPUTATION.match(line):
            current = computations[match[2]] = {}
            entry = match[2] if match[1] else entry
        elif match := _INSTRUCTION.match(line):
            current[match["name"]] = match
    return computations, entry


def _collectives(
    computations: dict[str, _Computation], name: str, times: int, chains: set[tuple]
) -> Iterator[tuple[str, int, int]]:
    """(kind, bytes, times) of each collective of a computation that runs `times` times."""
    instructions = computations[name]
    for instruction in instructions.values():
        opcode, attributes = instruction["opcode"], instruction["attributes"]
        operands = _NAME.findall(instruction["operands"])
        kind = opcode.removesuffix("-start")
        if kind in _KINDS or _SCATTERED_SUM.search(attributes):
            chain = kind, *_CHAIN.findall(attributes)
            if len(chain) > 1 and chain in chains:
                continue
            chains.add(chain)
            given = sum(_bytes(instructions[operand]["type"]) for operand in operands)
            result = _bytes(instruction["type"])
            if kind == "all-reduce":  # which may convert what it is given
                yield kind, result, times
            elif kind == "all-gather":  # the result of one that is only started holds its operands
                yield kind, result - (given if kind != opcode else 0), times
            else:
                yield kind if kind in _KINDS else "reduce-scatter", given, times
            continue
        trips = _TRIPS.search(attributes)
        for called in _NAME.findall(" ".join(_CALLED.findall(attributes))):
            turns = times * (int(trips[1]) if trips else 1)
            yield from _collectives(computations, called, turns, chains)


def _bytes(type_: str) -> int:
    """The bytes of an array, or of a tuple of them, without padding."""
    return sum(
        math.prod(int(size) for size in sizes.split(",") if size)
        * (8 if dtype == "pred" else int(re.sub(r"\D", "", dtype)))
        // 8
        for dtype, sizes in _ARRAY.findall(type_)
    )
