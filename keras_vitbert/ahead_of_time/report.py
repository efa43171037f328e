"""The report on compiled programs: whether a run fits, and how fast it can be."""

GIB = 2**30
EFFICIENCIES = (1.0, 0.5)  # of the peak
_SECONDS_A_DAY = 86_400


def bytes_as_text(count):
    """Bytes as text.

    Args:
        count: int.

    Returns:
        str, in GiB or a smaller unit, such as `0.10 GiB` or `99.00 MiB`.
    """
    unit, size = next(
        (each for each in (("GiB", GIB), ("MiB", 2**20)) if count >= each[1] / 10), ("KiB", 2**10)
    )
    return f"{count / size:.2f} {unit}"


def verdict(programs, resident_bytes):
    """Whether all programs fit, and which one needs the most memory.

    Args:
        programs: dict of a program's name to a dict of `compiler.compile_program`.
        resident_bytes: int, of the variables that are in memory whichever program runs. Those that
            are not arguments of a program add to its peak.

    Returns:
        dict with `fits`, `program` (the one that needs the most), `needed` and `available` (bytes
        a replica).
    """

    def needed(result):
        if not result["fits"]:
            return result["needed"]
        return result["peak"] + max(0, resident_bytes - result["arguments"])

    name = max(programs, key=lambda name: needed(programs[name]))
    available = programs[name]["available"]
    return {
        "fits": all(r["fits"] and needed(r) <= r["available"] for r in programs.values()),
        "program": name,
        "needed": needed(programs[name]),
        "available": available,
    }


def roofline(result, slice_, images, tokens, steps):
    """The least time that a step takes, by compute and by memory (Williams et al. 2009).

    Collectives, and hosts that are too slow for the images, add to it.

    Args:
        result: dict, of `compiler.compile_program` for a program that fits.
        slice_: `tpu.slices.Slice`.
        images: int, in a step over all replicas.
        tokens: int, in a step over all replicas, padding included.
        steps: int, of the run.

    Returns:
        dict with `compute_seconds`, `memory_seconds`, `bound` (`compute` or `memory`), and `at`, a
        dict of an efficiency to `seconds` a step, `images_per_second`, `tokens_per_second`, `days`.
    """
    compute = result["operations"] / slice_.peak_flops
    memory = result["bytes"] / slice_.hbm_bandwidth
    least = max(compute, memory)
    at = {}
    for efficiency in EFFICIENCIES:
        seconds = least / efficiency
        at[f"{efficiency:.0%}"] = {
            "seconds": seconds,
            "images_per_second": images / seconds,
            "tokens_per_second": tokens / seconds,
            "days": steps * seconds / _SECONDS_A_DAY,
        }
    return {
        "compute_seconds": compute,
        "memory_seconds": memory,
        "bound": "compute" if compute >= memory else "memory",
        "at": at,
    }


def differences(result, other):
    """Compares a program with another.

    Args:
        result, other: dicts, of `compiler.compile_program`.

    Returns:
        dict of a measure to the relative difference; 0 if the other's is 0.
    """
    pairs = {name: (result[name], other[name]) for name in ("operations", "bytes", "peak")}
    pairs["all_reduced_bytes"] = all_reduced_bytes(result), all_reduced_bytes(other)
    return {name: ours / theirs - 1 if theirs else 0.0 for name, (ours, theirs) in pairs.items()}


def all_reduced_bytes(result):
    """Bytes that are summed over all replicas, each of which gets the sum.

    Args:
        result: dict, of `compiler.compile_program`.

    Returns:
        int.
    """
    return result["collectives"].get("all-reduce", {"bytes": 0})["bytes"]


def sent(result):
    """What a program sends between the replicas, in words.

    Args:
        result: dict, of `compiler.compile_program`.

    Returns:
        str, such as `all-gather 0.8 GB in 12, all-reduce 0.5 GB in 7`.
    """
    return ", ".join(
        f"{kind} {found['bytes'] / 1e9:.3g} GB in {found['count']}"
        for kind, found in sorted(result["collectives"].items())
    )


def require_programs(wanted, steps):
    """Refuses names of programs that a run does not have.

    Args:
        wanted: iterable of str.
        steps: list of `keras_vitbert.ahead_of_time.programs.StepProgram`.

    Raises:
        ValueError: names the programs that there are.
    """
    names = [program.name for program in steps]
    for name in wanted:
        if name not in names:
            raise ValueError(f"program {name!r}: this run has {', '.join(names)}")


def table(outcome):
    """Formats the outcome of `keras_vitbert.aot` as text.

    Args:
        outcome: dict, of `keras_vitbert.aot.main`.

    Returns:
        str.
    """
    tpu, fit = outcome["tpu"], outcome["memory"]
    lines = [
        f"{outcome['what']} on {tpu['type']}: {tpu['cores']} cores, {tpu['chips']} chips, "
        f"{tpu['hosts']} host(s), {tpu['topology']}, {tpu['replicas']} replicas",
        f"a step: {described(outcome['batch'])}; a replica: {described(outcome['replica_batch'])}",
        "",
    ]
    rows = [_HEADER, *(_row(name, result) for name, result in outcome["programs"].items())]
    if "compared" in outcome:
        rows.append(_row(f"train, {outcome['compared']['with']}", outcome["compared"]["program"]))
    lines += aligned(rows)
    lines += [
        f"{name} sends {sent(result)}"
        for name, result in outcome["programs"].items()
        if result["fits"] and result["collectives"].keys() - {"all-reduce"}
    ]
    share = f"{bytes_as_text(fit['needed'])} of {bytes_as_text(fit['available'])} a replica"
    if fit["fits"]:
        lines += ["", f"fits: {share} ({fit['program']}, with all variables)"]
    else:
        over = bytes_as_text(fit["needed"] - fit["available"])
        lines += ["", f"does not fit: {share} ({fit['program']}), {over} too much"]
    if "largest" in outcome:
        lines.append(_largest(outcome["largest"]))
    if "roofline" in outcome:
        lines += _roofline_lines(outcome["roofline"], outcome["batch"], outcome["steps"])
    if "compared" in outcome:
        changes = ", ".join(
            f"{name.replace('_', '-')} {change:+.2%}"
            for name, change in outcome["compared"]["differences"].items()
        )
        lines.append(f"against {outcome['compared']['with']}: {changes}")
    return "\n".join(lines)


def aligned(rows):
    """The lines of a table whose first column is aligned to the left.

    Args:
        rows: list of tuples of str, all of one length.

    Returns:
        list of str.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines


_HEADER = ("program", *"peak arguments temporaries operations moved summed compiled".split())


def _row(name, result):
    seconds = f"{result['seconds']:.0f} s"
    if not result["fits"]:
        return (name, bytes_as_text(result["needed"]), *[""] * 5, seconds)
    sums = result["collectives"].get("all-reduce", {"count": 0})["count"]
    return (
        name,
        bytes_as_text(result["peak"]),
        bytes_as_text(result["arguments"]),
        bytes_as_text(result["temporaries"]),
        f"{result['operations'] / 1e12:.3g} T",
        f"{result['bytes'] / 1e9:.3g} GB",
        f"{all_reduced_bytes(result) / 1e9:.3g} GB in {sums}",
        seconds,
    )


def described(batch):
    """A batch in words.

    Args:
        batch: dict of `images` and `texts` to their number.

    Returns:
        str, such as `4096 images and 512 texts`.
    """
    return " and ".join(f"{count} {name}" for name, count in batch.items())


def _largest(largest):
    if largest["batch"] is None:
        return "no batch fits, not even the smallest"
    return f"the largest batch that fits: {described(largest['batch'])} a step"


def _roofline_lines(roofline, batch, steps):
    bound = roofline["bound"]
    lines = [
        f"a step takes at least {roofline['compute_seconds'] * 1e3:.1f} ms of compute and "
        f"{roofline['memory_seconds'] * 1e3:.1f} ms of memory: bound by {bound}"
    ]
    for efficiency, at in roofline["at"].items():
        rates = []
        if "images" in batch:
            rates.append(f"{at['images_per_second']:,.0f} images/s")
        if "texts" in batch:
            rates.append(f"{at['tokens_per_second']:,.0f} tokens/s")
        if "examples" in batch:
            rates.append(f"{batch['examples'] / at['seconds']:,.0f} examples/s")
        if steps:
            days = f"{at['days']:.2f} days" if at["days"] >= 0.1 else f"{at['days'] * 24:.2f} hours"
            rates.append(f"{days} for {steps:,} steps")
        lines.append(f"  at {efficiency} of it: {', '.join(rates)}")
    return lines
