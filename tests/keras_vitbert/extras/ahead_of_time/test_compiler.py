"""The TPU's compiler: its results, and its errors on memory."""

import pytest

from keras_vitbert.extras.ahead_of_time import compiler
from tests.keras_vitbert.extras.ahead_of_time.results import GIB, needs_compiler
from tpu.slices import find_slice


@needs_compiler
@pytest.mark.slow
def test_a_program_that_does_not_fit():
    found = compiler.compile_apart(compiler._TOO_LARGE.encode(), find_slice("v6e-8"))
    assert not found["fits"] and found["needed"] >= 2**42
    assert found["available"] == pytest.approx(31.25 * GIB, rel=1e-3)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Ran out of memory in memory space hbm. Used 55.97G of 15.48G hbm.", (55.97, 15.48)),
        ("HLO temporaries (8.00T) exceeds available HBM (512.0M).", (8192, 0.5)),
    ],
)
def test_what_the_compiler_says_of_memory(text, expected):
    found = compiler._refusal(RuntimeError(f"RESOURCE_EXHAUSTED: {text}"))
    assert found == pytest.approx([GIB * x for x in expected])
    with pytest.raises(ValueError, match="of another kind"):
        compiler._refusal(ValueError("of another kind"))


@pytest.mark.parametrize(
    "script, culprit",
    [("echo no such chip >&2; exit 1", "no such chip"), ("kill -KILL $$", "memory")],
)
def test_a_compiler_that_fails(monkeypatch, tmp_path, script, culprit):
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(compiler.sys, "executable", str(path))
    with pytest.raises(ValueError, match=f"v3-8.*{culprit}"):
        compiler.compile_apart(b"", find_slice("v3-8"))
