"""The proof: compiles the programs of a run for a slice, and says whether and how fast they run."""

import dataclasses
from collections.abc import Callable
from typing import Any

from keras_vitbert.extras.ahead_of_time import report
from keras_vitbert.extras.ahead_of_time.compiler import compile_apart
from keras_vitbert.extras.ahead_of_time.programs import Programs
from pipelines.command_line import say
from tpu.slices import Slice

Build = Callable[[Any], Programs]  # from the strategy of the devices


def prove(
    what: str, build: Build, slice_: Slice, sharding: str = "", only: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Compiles the programs of a run.

    Args:
        what: the run, for the table.
        build: makes the programs.
        slice_: where they are to run.
        sharding: for JAX's programs, see `tpu.jax_strategy.JaxStrategy`; empty for TensorFlow's.
        only: names of the programs to compile; all if empty.

    Returns:
        The content of `--json`.

    Raises:
        ValueError: there is no such program, it cannot run on a TPU, or the compiler fails.
    """
    programs, results, resident = _compiled(build, slice_, sharding, only)
    outcome = {
        "what": what,
        "tpu": dataclasses.asdict(slice_),
        "batch": programs.batch,
        "steps": programs.run_steps,
        "variables_bytes": resident,
        "memory": report.verdict(results, resident),
        "programs": results,
    }
    if results.get("train", {}).get("fits"):
        batch, length = programs.batch, programs.text_length
        tokens = {"tokens": batch["texts"] * length} if "texts" in batch else {}
        rates = {name: count for name, count in batch.items() if name != "texts"} | tokens
        outcome["roofline"] = report.roofline(results["train"], slice_, rates, programs.run_steps)
    return outcome


def compare(
    result: dict[str, Any], name: str, build: Build, slice_: Slice, sharding: str = ""
) -> dict[str, Any]:
    """Compares the result of a training step with that of another run, `name`.

    Returns:
        `with`, its name; `program`, its result; `differences`, empty if it does not fit.
    """
    [other] = _compiled(build, slice_, sharding, ("train",))[1].values()
    differences = report.differences(result, other) if other["fits"] else {}
    return {"with": name, "program": other, "differences": differences}


def _compiled(build, slice_, sharding, only):
    """(`Programs`, results of `compile_program` by name, bytes of variables on each replica)."""
    found = _of_jax(build, slice_, sharding) if sharding else _of_tensorflow(build, slice_)
    programs, text_of, resident = found
    names = [program.name for program in programs.steps]
    for name in only:
        if name not in names:
            raise ValueError(f"program {name!r}: this run has {', '.join(names)}")
    results = {}
    for program in programs.steps:
        if only and program.name not in only:
            continue
        try:
            say(f"{program.name}: tracing {report.described(programs.batch)}")
            text = text_of(program)
            say(f"{program.name}: compiling")
            results[program.name] = compile_apart(text, slice_, bool(sharding))
        except ValueError as error:
            raise ValueError(f"program {program.name!r}: {error}") from error
    return programs, results, resident


def _of_tensorflow(build, slice_):
    """(`Programs`, a function from one of them to its StableHLO, bytes of variables)."""
    from keras_vitbert.extras.ahead_of_time.tracing import stablehlo, tracing_strategy

    strategy = tracing_strategy(slice_.replicas, slice_.replicas // slice_.hosts)
    programs = build(strategy)

    def text_of(program):
        return stablehlo(strategy, program.step, (program.batch,))[0]

    return programs, text_of, programs.resident_bytes()


def _of_jax(build, slice_, sharding):
    """The same for JAX."""
    from keras_vitbert.extras.ahead_of_time.lowering import lowering_strategy, stablehlo

    strategy = lowering_strategy(slice_, sharding)
    programs = build(strategy)

    def text_of(program):
        return stablehlo(strategy, programs, program)

    def share_of(shape):
        return strategy.sharding_of(shape).shard_shape(tuple(shape))

    return programs, text_of, programs.resident_bytes(share_of)
