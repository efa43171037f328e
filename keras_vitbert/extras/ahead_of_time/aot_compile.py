"""Compiles the programs of a run for a slice, and says whether they fit and how fast they run.

A result is what `compiler.compile_program` returns for a program.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from keras_vitbert.extras.ahead_of_time.compiler import compile_apart
from pipelines.command_line import say
from tpu.slices import Slice

if TYPE_CHECKING:
    from keras_vitbert.extras.ahead_of_time.programs import Programs, StepProgram

GIB = 2**30
_EFFICIENCIES = (1.0, 0.5)  # of the peak
_HEADER = ("program", *"peak arguments temporaries operations moved summed compiled".split())

Build = Callable[[Any], "Programs"]  # of the strategy of the devices
Result = dict[str, Any]


def prove(
    what: str, build: Build, slice_: Slice, sharding: str = "", only: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Compiles the programs of a run: the content of `--json`.

    Args:
        what: the run, for the table.
        build: makes the programs.
        slice_: where they are to run.
        sharding: for JAX's programs, see `tpu.jax_strategy.JaxStrategy`; empty for TensorFlow's.
        only: names of the programs to compile; all if empty.
    """
    programs, results, resident = _compile(build, slice_, sharding, only)
    outcome = {
        "what": what,
        "tpu": dataclasses.asdict(slice_),
        "batch": programs.batch,
        "steps": programs.run_steps,
        "variables_bytes": resident,
        "memory": verdict(results, resident),
        "programs": results,
    }
    if results.get("train", {}).get("fits"):
        counts = dict(programs.batch)
        if "texts" in counts:
            counts["tokens"] = counts.pop("texts") * programs.text_length
        outcome["roofline"] = roofline(results["train"], slice_, counts, programs.run_steps)
    return outcome


def compare(
    result: Result, name: str, build: Build, slice_: Slice, sharding: str = ""
) -> dict[str, Any]:
    """Compares the result of a training step with that of another run, `name`.

    Returns:
        `with`, its name; `program`, its result; `differences`, empty if it does not fit.
    """
    other = _compile(build, slice_, sharding, ("train",))[1]["train"]
    changes = differences(result, other) if other["fits"] else {}
    return {"with": name, "program": other, "differences": changes}


def _compile(
    build: Build, slice_: Slice, sharding: str, only: tuple[str, ...]
) -> tuple[Programs, dict[str, Result], int]:
    """The programs, their results by name, and the bytes of variables on each replica."""
    if sharding:
        from keras_vitbert.extras.ahead_of_time import lowering

        strategy = lowering.lowering_strategy(slice_, sharding)
        programs = build(strategy)
        text_of = functools.partial(lowering.stablehlo, strategy, programs)
        resident = programs.resident_bytes(
            lambda shape: strategy.sharding_of(shape).shard_shape(tuple(shape))
        )
    else:
        from keras_vitbert.extras.ahead_of_time import tracing

        strategy = tracing.tracing_strategy(slice_.replicas, slice_.replicas // slice_.hosts)
        programs = build(strategy)

        def text_of(program: StepProgram) -> bytes:
            return tracing.stablehlo(strategy, program.step, (program.batch,))[0]

        resident = programs.resident_bytes()
    steps = {program.name: program for program in programs.steps}
    if unknown := [name for name in only if name not in steps]:
        raise ValueError(f"program {unknown[0]!r}: this run has {', '.join(steps)}")
    results = {}
    for name in only or steps:
        try:
            say(f"{name}: tracing {batch_text(programs.batch)}")
            text = text_of(steps[name])
            say(f"{name}: compiling")
            results[name] = compile_apart(text, slice_, bool(sharding))
        except ValueError as error:
            raise ValueError(f"program {name!r}: {error}") from error
    return programs, results, resident


def verdict(results: dict[str, Result], resident_bytes: int) -> dict[str, Any]:
    """Whether all programs fit, and which one needs the most memory.

    The variables that are in memory whichever program runs, and are not arguments of a program, add
    to its peak.

    Returns:
        `fits`, `program` (the one that needs the most), `needed` and `available` (bytes a replica).
    """

    def needed(result: Result) -> int:
        if not result["fits"]:
            return result["needed"]
        return result["peak"] + max(0, resident_bytes - result["arguments"])

    name = max(results, key=lambda name: needed(results[name]))
    return {
        "fits": all(one["fits"] and needed(one) <= one["available"] for one in results.values()),
        "program": name,
        "needed": needed(results[name]),
        "available": results[name]["available"],
    }


def roofline(result: Result, slice_: Slice, counts: dict[str, int], steps: int) -> dict[str, Any]:
    """The least time that a step takes, by compute and by memory (Williams et al. 2009).

    Collectives, and hosts that are too slow for the images, add to it. `counts` has the `images`,
    `tokens` or `examples` of a step over all replicas, and `steps` are those of the run.

    Returns:
        `compute_seconds`, `memory_seconds`, `bound` (`compute` or `memory`), and `at`, an
        efficiency to `seconds` a step, `days` of the run, and `images_per_second` and so on.
    """
    compute = result["operations"] / slice_.peak_flops
    memory = result["bytes"] / slice_.hbm_bandwidth
    at = {}
    for efficiency in _EFFICIENCIES:
        seconds = max(compute, memory) / efficiency
        rates = {f"{name}_per_second": count / seconds for name, count in counts.items()}
        at[f"{efficiency:.0%}"] = {"seconds": seconds, "days": steps * seconds / 86_400, **rates}
    bound = "compute" if compute >= memory else "memory"
    return {"compute_seconds": compute, "memory_seconds": memory, "bound": bound, "at": at}


def differences(result: Result, other: Result) -> dict[str, float]:
    """The relative difference from another program by measure; 0 if the other's is 0."""
    pairs = {name: (result[name], other[name]) for name in ("operations", "bytes", "peak")}
    pairs["all_reduced_bytes"] = _all_reduced(result)["bytes"], _all_reduced(other)["bytes"]
    return {name: ours / theirs - 1 if theirs else 0.0 for name, (ours, theirs) in pairs.items()}


def collectives_text(result: Result) -> str:
    """What a program sends between the replicas, such as `all-reduce 0.5 GB in 7`."""
    return ", ".join(
        f"{kind} {total['bytes'] / 1e9:.3g} GB in {total['count']}"
        for kind, total in sorted(result["collectives"].items())
    )


def table(outcome: dict[str, Any]) -> str:
    """Formats the outcome of `keras_vitbert.aot` as text."""
    tpu, batch, results = outcome["tpu"], outcome["batch"], dict(outcome["programs"])
    share = {name: count // tpu["replicas"] for name, count in batch.items()}
    lines = [
        f"{outcome['what']} on {tpu['accelerator_type']}: {tpu['cores']} cores, {tpu['chips']} "
        f"chips, {tpu['hosts']} host(s), {'x'.join(map(str, tpu['topology']))}, "
        f"{tpu['replicas']} replicas",
        f"a step: {batch_text(batch)}; a replica: {batch_text(share)}",
        "",
    ]
    others = [
        f"{name} sends {collectives_text(result)}"
        for name, result in results.items()
        if result["fits"] and result["collectives"].keys() - {"all-reduce"}
    ]
    compared = outcome.get("compared")
    if compared:
        results[f"train, {compared['with']}"] = compared["program"]
    lines += [*_aligned([_HEADER, *(_row(*item) for item in results.items())]), *others]
    lines += ["", _fit(outcome["memory"])]
    if "roofline" in outcome:
        lines += _roofline_lines(outcome["roofline"], outcome["steps"])
    if compared:
        changes = ", ".join(
            f"{name.replace('_', '-')} {change:+.2%}"
            for name, change in compared["differences"].items()
        )
        lines.append(f"against {compared['with']}: {changes or 'it does not fit'}")
    return "\n".join(lines)


def batch_text(batch: dict[str, int]) -> str:
    """A batch in words, such as `4096 images and 512 texts`."""
    return " and ".join(f"{count} {name}" for name, count in batch.items())


def _all_reduced(result: Result) -> dict[str, int]:
    """The sums over all replicas, each of which gets the sum."""
    return result["collectives"].get("all-reduce", {"count": 0, "bytes": 0})


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """The lines of a table whose first column is aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield "  " + "  ".join([first.ljust(widths[0]), *cells])


def _row(name: str, result: Result) -> tuple[str, ...]:
    seconds = f"{result['seconds']:.0f} s"
    if not result["fits"]:
        return name, _as_text(result["needed"]), *[""] * 5, seconds
    sums = _all_reduced(result)
    return (
        name,
        *(_as_text(result[size]) for size in ("peak", "arguments", "temporaries")),
        f"{result['operations'] / 1e12:.3g} T",
        f"{result['bytes'] / 1e9:.3g} GB",
        f"{sums['bytes'] / 1e9:.3g} GB in {sums['count']}",
        seconds,
    )


def _fit(memory: dict[str, Any]) -> str:
    share = f"{_as_text(memory['needed'])} of {_as_text(memory['available'])} a replica"
    if memory["fits"]:
        return f"fits: {share} ({memory['program']}, with all variables)"
    over = _as_text(memory["needed"] - memory["available"])
    return f"does not fit: {share} ({memory['program']}), {over} too much"


def _as_text(count: int) -> str:
    """Bytes as text, such as `0.10 GiB` or `99.00 MiB`."""
    return f"{count / GIB:.2f} GiB" if count >= GIB / 10 else f"{count / 2**20:.2f} MiB"


def _roofline_lines(roofline: dict[str, Any], steps: int) -> Iterator[str]:
    yield (
        f"a step takes at least {roofline['compute_seconds'] * 1e3:.1f} ms of compute and "
        f"{roofline['memory_seconds'] * 1e3:.1f} ms of memory: bound by {roofline['bound']}"
    )
    for efficiency, at in roofline["at"].items():
        rates = [
            f"{rate:,.0f} {name.removesuffix('_per_second')}/s"
            for name, rate in at.items()
            if name.endswith("_per_second")
        ]
        if steps:
            days = at["days"]
            time = f"{days:.2f} days" if days >= 0.1 else f"{days * 24:.2f} hours"
            rates.append(f"{time} for {steps:,} steps")
        yield f"  at {efficiency} of it: {', '.join(rates)}"
