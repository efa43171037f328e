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


def test_what_the_compiler_says_of_memory():
    text = "RESOURCE_EXHAUSTED: HLO temporaries (8.00T) exceeds available HBM (512.0M)."
    found = compiler._refusal(RuntimeError(text))
    assert found == pytest.approx([8192 * GIB, 0.5 * GIB])
    with pytest.raises(ValueError, match="of another kind"):
        compiler._refusal(ValueError("of another kind"))


def test_a_compiler_that_is_killed_had_no_memory(monkeypatch, tmp_path):
    path = tmp_path / "python"
    path.write_text("#!/bin/sh\nkill -KILL $$\n")
    path.chmod(0o755)
    monkeypatch.setattr(compiler.sys, "executable", str(path))
    with pytest.raises(ValueError, match="v3-8.*memory"):
        compiler.compile_apart(b"", find_slice("v3-8"))
