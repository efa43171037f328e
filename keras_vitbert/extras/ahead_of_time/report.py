"""The report on compiled programs: whether a run fits, and how fast it can be.

A result is what `compiler.compile_program` returns for a program.
"""

from typing import Any

from tpu.slices import Slice

GIB = 2**30
_EFFICIENCIES = (1.0, 0.5)  # of the peak
_HEADER = ("program", *"peak arguments temporaries operations moved summed compiled".split())

Result = dict[str, Any]


def verdict(results: dict[str, Result], resident_bytes: int) -> dict[str, Any]:
    """Whether all programs fit, and which one needs the most memory.

    Args:
        results: by the program's name.
        resident_bytes: of the variables that are in memory whichever program runs. Those that are
            not arguments of a program add to its peak.

    Returns:
        `fits`, `program` (the one that needs the most), `needed` and `available` (bytes a replica).
    """

    def needed(result):
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

    Collectives, and hosts that are too slow for the images, add to it.

    Args:
        result: of a program that fits.
        slice_: where it runs.
        counts: `images`, `tokens` or `examples` to their number in a step over all replicas.
        steps: of the run.

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


def sent(result: Result) -> str:
    """What a program sends between the replicas, such as `all-reduce 0.5 GB in 7`."""
    return ", ".join(
        f"{kind} {found['bytes'] / 1e9:.3g} GB in {found['count']}"
        for kind, found in sorted(result["collectives"].items())
    )


def table(outcome: dict[str, Any]) -> str:
    """Formats the outcome of `keras_vitbert.aot` as text."""
    tpu, batch, results = outcome["tpu"], outcome["batch"], dict(outcome["programs"])
    share = {name: count // tpu["replicas"] for name, count in batch.items()}
    lines = [
        f"{outcome['what']} on {tpu['accelerator_type']}: {tpu['cores']} cores, {tpu['chips']} "
        f"chips, {tpu['hosts']} host(s), {'x'.join(map(str, tpu['topology']))}, "
        f"{tpu['replicas']} replicas",
        f"a step: {described(batch)}; a replica: {described(share)}",
        "",
    ]
    others = [
        f"{name} sends {sent(result)}"
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


def described(batch: dict[str, int]) -> str:
    """A batch in words, such as `4096 images and 512 texts`."""
    return " and ".join(f"{count} {name}" for name, count in batch.items())


def _all_reduced(result):
    """The sums over all replicas, each of which gets the sum."""
    return result["collectives"].get("all-reduce", {"count": 0, "bytes": 0})


def _aligned(rows):
    """The lines of a table whose first column is aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield "  " + "  ".join([first.ljust(widths[0]), *cells])


def _row(name, result):
    seconds = f"{result['seconds']:.0f} s"
    if not result["fits"]:
        return name, _as_text(result["needed"]), *[""] * 5, seconds
    sums = _all_reduced(result)
    return (
        name,
        *(_as_text(result[part]) for part in ("peak", "arguments", "temporaries")),
        f"{result['operations'] / 1e12:.3g} T",
        f"{result['bytes'] / 1e9:.3g} GB",
        f"{sums['bytes'] / 1e9:.3g} GB in {sums['count']}",
        seconds,
    )


def _fit(memory):
    share = f"{_as_text(memory['needed'])} of {_as_text(memory['available'])} a replica"
    if memory["fits"]:
        return f"fits: {share} ({memory['program']}, with all variables)"
    over = _as_text(memory["needed"] - memory["available"])
    return f"does not fit: {share} ({memory['program']}), {over} too much"


def _as_text(count):
    """Bytes as text, such as `0.10 GiB` or `99.00 MiB`."""
    units = (("GiB", GIB), ("MiB", 2**20))
    unit, size = next((each for each in units if count >= each[1] / 10), ("KiB", 2**10))
    return f"{count / size:.2f} {unit}"


def _roofline_lines(roofline, steps):
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
