"""The TPU's compiler: its results, and its errors on memory."""

import pytest

from keras_vitbert.ahead_of_time import compiler
from tests.keras_vitbert.ahead_of_time.results import GIB, needs_compiler
from tpu.slices import find_slice


@needs_compiler
@pytest.mark.slow
def test_a_program_that_does_not_fit(tmp_path):
    path = tmp_path / "program.mlir"
    path.write_text(compiler._TOO_LARGE)
    with compiler.compiling(str(path), find_slice("v6e-8")) as result:
        found = result()
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
