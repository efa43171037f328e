"""The proof: compiled and refused programs, and the search for the largest batch."""

import contextlib
import os
import signal
import subprocess

import pytest
import tensorflow as tf

from keras_vitbert.ahead_of_time import compiler, proof, report
from keras_vitbert.ahead_of_time.programs import Programs, StepProgram
from pipelines.command_line import Stopped, stop_signals
from tests.keras_vitbert.ahead_of_time.results import compiled, refused
from tpu.slices import find_slice

V3_8 = find_slice("v3-8")


def subject(**steps):
    """A subject: a program of each step, whose batch is four numbers."""
    spec = tf.TensorSpec((4,), tf.float32)
    programs = Programs([StepProgram(name, step, spec) for name, step in steps.items()], [])
    keys, units = {"images": "image_batch"}, {"images": 8}
    return proof.Subject("x", {"images": 8}, keys, units, 0, 10, lambda strategy, batch: programs)


def add_one(x):
    return x + 1


@pytest.fixture
def result(monkeypatch):
    """`result(finish)` stands in for the compiler: what waits for its end, the same for all."""

    def stand_in(finish):
        monkeypatch.setattr(proof, "compiling", lambda *program: contextlib.nullcontext(finish))

    return stand_in


@pytest.fixture
def processes(monkeypatch, tmp_path):
    """`processes(script)` stands in for the compiler: a list of the shell scripts that are run."""
    started = []

    class Popen(subprocess.Popen):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            started.append(self)

    def stand_in(script):
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(compiler.sys, "executable", str(path))
        monkeypatch.setattr(compiler.subprocess, "Popen", Popen)
        return started

    yield stand_in
    for process in started:
        process.kill()


# --- what is compiled -----------------------------------------------------------------------------


@pytest.mark.parametrize("jobs, most", [(1, 1), (2, 2), (9, 3)])
def test_as_many_programs_as_jobs_are_compiled_at_once(monkeypatch, jobs, most):
    running, counts = set(), []

    def start(path, slice_, is_whole):
        assert slice_ is V3_8
        number = len(counts)
        running.add(number)
        counts.append(len(running))

        def finish():
            running.remove(number)
            return compiled(peak=number)

        return contextlib.nullcontext(finish)

    monkeypatch.setattr(proof, "compiling", start)
    outcome = proof.prove(subject(train=add_one, probe=add_one, validate=add_one), V3_8, jobs)
    assert not running and max(counts) == most
    assert outcome["tpu"]["source"] == "https://cloud.google.com/tpu/docs/v3"
    assert outcome["programs"] == {
        name: compiled(peak=number) for number, name in enumerate(["train", "probe", "validate"])
    }


def test_only_the_programs_that_are_named_are_compiled(result):
    result(compiled)
    outcome = proof.prove(subject(train=add_one, validate=add_one), V3_8, only=("validate",))
    assert list(outcome["programs"]) == ["validate"] and "roofline" not in outcome
    assert "roofline" in proof.prove(subject(train=add_one), V3_8)


def test_a_program_that_no_tpu_can_run(result):
    result(compiled)

    def by_text(x):
        return tf.strings.to_number(tf.strings.as_string(x))

    with pytest.raises(ValueError, match="'probe'.*AsString") as caught:
        proof.prove(subject(train=add_one, probe=by_text), V3_8)
    assert "\n" not in str(caught.value)


def test_a_program_that_the_compiler_refuses(result):
    def finish():
        raise RuntimeError("status 1: of another\nkind")

    result(finish)
    with pytest.raises(ValueError, match="'train'.* of another kind"):
        proof.prove(subject(train=add_one), V3_8)


def test_a_compiler_that_is_killed(processes):
    """Else it says nothing: Linux kills what needs more memory than there is."""
    processes("kill -KILL $$")
    with compiler.compiling("x.mlir", V3_8) as result, pytest.raises(RuntimeError, match="memory"):
        result()


def test_no_compiler_outlives_one_that_fails(processes):
    started = processes('case "$3" in */0.mlir) exit 1 ;; esac; exec sleep 600')
    with pytest.raises(ValueError, match="'train'"):
        proof.prove(subject(train=add_one, probe=add_one), V3_8, jobs=2)
    assert [process.poll() for process in started] == [1, -signal.SIGKILL]


def test_no_compiler_outlives_the_command(processes):
    started = processes("exec sleep 600")

    def terminated(x):
        os.kill(os.getpid(), signal.SIGTERM)
        return x

    with pytest.raises(Stopped), stop_signals():
        proof.prove(subject(train=add_one, probe=terminated), V3_8, jobs=2)
    assert [process.poll() for process in started] == [-signal.SIGKILL]


def test_a_step_that_does_not_fit_is_not_compared(result):
    result(lambda: refused(20))
    with pytest.raises(ValueError, match="joint"):
        proof.compare(compiled(), subject(train=add_one), "joint", V3_8)


# --- the search -----------------------------------------------------------------------------------


@pytest.mark.parametrize("base, each, curve", [(1.5, 0.02, 0), (1.5, 0.5, 0), (3, 0.001, 1e-5)])
@pytest.mark.parametrize("images, texts", [(512, 64), (33, 4), (7, 0), (0, 100)])
@pytest.mark.parametrize("image_unit, text_unit", [(8, 8), (16, 8), (48, 24)])
def test_the_largest_batch_is_found(
    monkeypatch, base, each, curve, images, texts, image_unit, text_unit
):
    """Against trying them all; memory grows with the batch, in a straight line or not."""
    tried, units = [], {"images": image_unit, "texts": text_unit}

    def needed(batch):
        size = batch.get("images", 0) / image_unit + 3 * batch.get("texts", 0) / text_unit
        return base + each * size + curve * size**2

    def fake(subject, batch, slice_, jobs=1, only=()):
        tried.append(batch)
        fits = needed(batch) <= 15.48
        return {"train": compiled(needed(batch)) if fits else refused(needed(batch))}, 0

    monkeypatch.setattr(proof, "_compiled", fake)
    share = {name: n for name, n in (("images", images), ("texts", texts)) if n}
    batch = {name: units[name] * n for name, n in share.items()}
    keys = {"images": "image_batch", "texts": "text_batch"}
    outcome = proof.prove(proof.Subject("x", batch, keys, units, 512, 10, None), V3_8)
    whole = max(share.values())
    sizes = [
        {name: units[name] * max(1, n * size // whole) for name, n in share.items()}
        for size in range(1, whole + 1)
    ]
    fitting = [candidate for candidate in sizes if needed(candidate) <= 15.48]
    if batch in fitting:
        assert "largest" not in outcome and outcome["memory"]["fits"] and len(tried) == 1
        return
    found = outcome["largest"]["batch"]
    assert found == (fitting[-1] if fitting else None)
    assert len(tried) <= 8
    text = report.table(outcome)
    assert "does not fit" in text
    if found:
        assert report.described(found) in text
