"""The proof: compiles the programs of a run for a slice, and searches for the largest batch."""

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Callable

from keras_vitbert.ahead_of_time import report
from keras_vitbert.ahead_of_time.compiler import compiling
from pipelines.command_line import one_line, say


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is proven.

    Attributes:
        what: str, for the table.
        batch: dict of `images` and `texts` to their number in a step over all replicas.
        keys: dict of the same names to the config's key for that number.
        units: dict of the same names to what that number must be a multiple of, so that all
            replicas and their parts have equal shares.
        text_length: int, tokens of a text, padding included.
        steps: int, of the run.
        programs: callable of (strategy, dict of the config's keys to other values) that returns
            `programs.Programs`.
        parts: int, how many parts a replica's batch is divided into.
        on_jax: bool, whether the programs are JAX's.
        sharding: str, see `tpu.jax_strategy.JaxStrategy`.
    """

    what: str
    batch: dict[str, int]
    keys: dict[str, str]
    units: dict[str, int]
    text_length: int
    steps: int
    programs: Callable
    parts: int = 1
    on_jax: bool = False
    sharding: str = "replicated"


def prove(subject, slice_, jobs=1, only=()):
    """Compiles all programs of a subject; if they do not fit, searches for the largest batch.

    Args:
        subject: `Subject`.
        slice_: `tpu.slices.Slice`.
        jobs: int, how many programs are compiled at once.
        only: tuple of str, the programs to compile; all if empty.

    Returns:
        dict, the content of `--json`.

    Raises:
        ValueError: there is no such program, or it cannot run on a TPU.
    """
    replicas = slice_.replicas
    programs, resident = _compiled(subject, subject.batch, slice_, jobs, only)
    memory = report.verdict(programs, resident)
    outcome = {
        "what": subject.what,
        "tpu": {
            "type": slice_.accelerator_type,
            "cores": slice_.cores,
            "chips": slice_.chips,
            "hosts": slice_.hosts,
            "topology": slice_.topology_name,
            "replicas": replicas,
            "source": f"https://cloud.google.com/tpu/docs/{slice_.generation}",
        },
        "batch": subject.batch,
        "replica_batch": {name: count // replicas for name, count in subject.batch.items()},
        "steps": subject.steps,
        "variables_bytes": resident,
        "memory": memory,
        "programs": programs,
    }
    if "train" in programs and programs["train"]["fits"]:
        tokens = subject.batch.get("texts", 0) * subject.text_length
        outcome["roofline"] = report.roofline(
            programs["train"], slice_, subject.batch.get("images", 0), tokens, subject.steps
        )
    if not memory["fits"]:
        outcome["largest"] = _search(subject, slice_, memory)
    return outcome


def _compiled(subject, batch, slice_, jobs=1, only=()):
    """The compiled programs of a subject at a batch: (dict by name, bytes of variables)."""
    changes = {subject.keys[name]: count for name, count in batch.items()}
    programs, text_of, resident = (_of_jax if subject.on_jax else _of_tensorflow)(
        subject, changes, slice_
    )
    report.require_programs(only, programs.steps)
    results, waiting = {}, {}

    def finish_oldest():
        name = next(iter(waiting))
        try:
            results[name] = waiting.pop(name)()
        except RuntimeError as error:
            raise ValueError(
                f"program {name!r}: the compiler for {slice_.accelerator_type} fails: "
                f"{one_line(error)[:500]}"
            ) from error

    with contextlib.ExitStack() as stack:  # after an error it ends the compilers that still run
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        for program in programs.steps:
            if only and program.name not in only:
                continue
            say(f"{program.name}: tracing {report.described(batch)}")
            path = os.path.join(folder, f"{len(results) + len(waiting)}.mlir")
            with open(path, "wb") as file:
                file.write(text_of(program))
            while len(waiting) >= jobs:
                finish_oldest()
            say(f"{program.name}: compiling")
            result = stack.enter_context(compiling(path, slice_, subject.on_jax))
            waiting[program.name] = result
        while waiting:
            finish_oldest()
    return results, resident


def _of_tensorflow(subject, changes, slice_):
    """(`Programs`, a function from one of them to its StableHLO, bytes of variables)."""
    from keras_vitbert.ahead_of_time.tracing import Untraceable, stablehlo, tracing_strategy

    strategy = tracing_strategy(slice_.replicas, slice_.replicas // slice_.hosts)
    programs = subject.programs(strategy, changes)

    def text_of(program):
        try:
            return stablehlo(strategy, program.step, (program.batch,))[0]
        except Untraceable as error:
            problem = one_line(error)[:500]
            raise ValueError(f"program {program.name!r}: cannot run on a TPU: {problem}") from error

    return programs, text_of, programs.resident_bytes()


def _of_jax(subject, changes, slice_):
    """The same for JAX."""
    from keras_vitbert.ahead_of_time.lowering import lowering_strategy, stablehlo

    strategy = lowering_strategy(slice_, subject.sharding)
    programs = subject.programs(strategy, changes)

    def text_of(program):
        return stablehlo(strategy, programs, program)

    def share_of(shape):
        return strategy.sharding_of(shape).shard_shape(tuple(shape))

    return programs, text_of, programs.resident_bytes(share_of)


def _search(subject, slice_, memory):
    """The largest batch whose largest program fits, images and texts in the same proportion.

    It assumes that memory grows linearly with the batch, tries the batch that would fill the
    memory, and repeats that until the next larger batch does not fit.

    Returns:
        dict with `batch` (over all replicas; None if none fits) and `tried`, the sizes in units of
        the larger of images and texts.
    """
    units = {name: count // subject.units[name] for name, count in subject.batch.items()}
    whole = max(units.values())
    # Maps the size of a batch, in units, to the excess in bytes (below 0: it fits).
    tried = {whole: memory["needed"] - memory["available"]}

    def scaled(size):
        return {
            name: max(1, count * size // whole) * subject.units[name]
            for name, count in units.items()
        }

    fits, fails = 0, whole
    while fails - fits > 1:
        if fits:
            slope = (tried[fails] - tried[fits]) / (fails - fits)
            guess = fits + int(-tried[fits] / max(slope, 1))
        else:
            guess = fails * memory["available"] // memory["needed"]
        size = min(max(guess, fits + 1), fails - 1)
        programs, resident = _compiled(subject, scaled(size), slice_, only=(memory["program"],))
        found = report.verdict(programs, resident)
        tried[size] = found["needed"] - found["available"]
        fits, fails = (size, fails) if found["fits"] else (fits, size)
    return {"batch": scaled(fits) if fits else None, "tried": sorted(tried)}


def compare(result, other, name, slice_):
    """Compares a training step with that of another subject.

    Args:
        result: dict, of `compiler.compile_program` for the training step.
        other: `Subject`.
        name: str, of the other.
        slice_: `tpu.slices.Slice`.

    Returns:
        dict with `with`, `program` and `differences`.

    Raises:
        ValueError: the other does not fit.
    """
    programs, _ = _compiled(other, other.batch, slice_, only=("train",))
    if not programs["train"]["fits"]:
        raise ValueError(f"{name}: its training step does not fit")
    differences = report.differences(result, programs["train"])
    return {"with": name, "program": programs["train"], "differences": differences}
