"""The proof: compiled and refused programs, and the search for the largest batch."""

import signal
import types

import pytest
import tensorflow as tf

from pipelines.command_line import UserError
from tests.tpu.ahead_of_time.results import compiled, refused
from tpu.ahead_of_time import compiler, proof, report
from tpu.ahead_of_time.programs import Programs, StepProgram
from tpu.slices import find_slice

V3_8 = find_slice("v3-8")


def subject(**steps):
    """A subject: a program of each step, whose batch is four numbers."""
    spec = tf.TensorSpec((4,), tf.float32)
    programs = Programs([StepProgram(name, step, spec) for name, step in steps.items()], [])
    return proof.Subject(
        "x", {"images": 8}, {"images": "image_batch"}, 0, 10, lambda strategy, batch: programs
    )


def add_one(x):
    return x + 1


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

        return finish

    monkeypatch.setattr(proof, "start_compiling", start)
    outcome = proof.prove(subject(train=add_one, probe=add_one, validate=add_one), V3_8, jobs)
    assert not running and max(counts) == most
    assert outcome["tpu"]["source"] == "https://cloud.google.com/tpu/docs/v3"
    assert outcome["programs"] == {
        name: compiled(peak=number) for number, name in enumerate(["train", "probe", "validate"])
    }


def test_only_the_programs_that_are_named_are_compiled(monkeypatch):
    monkeypatch.setattr(proof, "start_compiling", lambda path, slice_, is_whole: compiled)
    outcome = proof.prove(subject(train=add_one, validate=add_one), V3_8, only=("validate",))
    assert list(outcome["programs"]) == ["validate"] and "roofline" not in outcome
    assert "roofline" in proof.prove(subject(train=add_one), V3_8)


def test_a_program_that_no_tpu_can_run(monkeypatch):
    monkeypatch.setattr(proof, "start_compiling", lambda path, slice_, is_whole: compiled)

    def by_text(x):
        return tf.strings.to_number(tf.strings.as_string(x))

    message = "^--tpu=v3-8: the program of 'probe' cannot run on a TPU: .*AsString"
    with pytest.raises(UserError, match=message) as caught:
        proof.prove(subject(train=add_one, probe=by_text), V3_8)
    assert "\n" not in str(caught.value)


def test_a_program_that_the_compiler_refuses(monkeypatch):
    def start(path, slice_, is_whole):
        def finish():
            raise RuntimeError("status 1: of another\nkind")

        return finish

    monkeypatch.setattr(proof, "start_compiling", start)
    message = "^--tpu=v3-8: the TPU's compiler fails on the program of 'train': .*of another kind"
    with pytest.raises(UserError, match=message):
        proof.prove(subject(train=add_one), V3_8)


def test_a_compiler_that_is_killed(monkeypatch):
    """Else it says nothing: Linux kills what needs more memory than there is."""
    killed = types.SimpleNamespace(returncode=-signal.SIGKILL, communicate=lambda: ("", ""))
    monkeypatch.setattr(compiler.subprocess, "Popen", lambda *_, **options: killed)
    with pytest.raises(
        RuntimeError, match="^killed, most likely .* too little memory; `--programs"
    ):
        compiler.start_compiling("x.mlir", V3_8)()


def test_a_step_that_does_not_fit_is_not_compared(monkeypatch):
    monkeypatch.setattr(
        proof, "start_compiling", lambda path, slice_, is_whole: lambda: refused(20)
    )
    with pytest.raises(UserError, match="^--compare=joint: its training step does not fit$"):
        proof.compare(compiled(), subject(train=add_one), "joint", V3_8)


# --- the search -----------------------------------------------------------------------------------


@pytest.mark.parametrize("base, each, curve", [(1.5, 0.02, 0), (1.5, 0.5, 0), (3, 0.001, 1e-5)])
@pytest.mark.parametrize("images, texts", [(512, 64), (33, 4), (7, 0), (0, 100)])
def test_the_largest_batch_is_found(monkeypatch, base, each, curve, images, texts):
    """Against trying them all; memory grows with the batch, in a straight line or not."""
    tried = []

    def needed(batch):
        size = batch.get("images", 0) + 3 * batch.get("texts", 0)
        return base + each * size / 8 + curve * (size / 8) ** 2

    def fake(subject, batch, slice_, jobs=1, only=()):
        tried.append(batch)
        fits = needed(batch) <= 15.48
        return {"train": compiled(needed(batch)) if fits else refused(needed(batch))}, 0

    monkeypatch.setattr(proof, "_compiled", fake)
    share = {name: n for name, n in (("images", images), ("texts", texts)) if n}
    batch = {name: 8 * n for name, n in share.items()}
    keys = {"images": "image_batch", "texts": "text_batch"}
    outcome = proof.prove(proof.Subject("x", batch, keys, 512, 10, None), V3_8)
    whole = max(share.values())
    sizes = [
        {name: 8 * max(1, n * size // whole) for name, n in share.items()}
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
        assert f"--config.{'image' if images else 'text'}_batch={max(found.values())}" in text
