"""The TPU's compiler: its results, and its errors on memory."""

import pytest

from tests.tpu.ahead_of_time.results import GIB, needs_compiler
from tpu.ahead_of_time import compiler
from tpu.slices import find_slice

HLO = """
  %all-reduce.5 = f32[]{:T(256)} all-reduce(%reduce.89), replica_groups={{0,1}}, to_apply=%add
  %a.6 = (f32[1,128]{1,0:T(2,128)}, /*index=1*/bf16[3,4]{1,0}) all-reduce-start(%x, %y), to=%add
  %d.6 = (f32[1,128]{1,0}, bf16[3,4]{1,0}) all-reduce-done(%a.6)
  %p = pred[8,10]{1,0} all-to-all(%z), dimensions={0}
  %f = f32[7]{0} fusion(%all-reduce.5), kind=kLoop, calls=%fused
"""


def test_collectives_are_counted_in_the_program():
    assert compiler.collectives(HLO) == {
        "all-reduce": {"count": 2, "bytes": 4 + 128 * 4 + 12 * 2},
        "all-to-all": {"count": 1, "bytes": 80},
    }


CHAINED = """
  %g.1 = bf16[4,4]{1,0} all-gather(%p.0), channel_id=18, frontend_attributes={chain_id="2"}
  %g.2 = bf16[4,4]{1,0:S(1)} all-gather(%p.1), channel_id=18, frontend_attributes={chain_id="2"}
  %g.3 = bf16[4,4]{1,0} all-gather(%p.2), channel_id=19, frontend_attributes={chain_id="3"}
  %g.4 = bf16[4,4]{1,0} all-gather(%p.3), channel_id=1
  %g.5 = bf16[4,4]{1,0} all-gather(%p.4), channel_id=1
"""


def test_a_collective_in_several_fusions_is_counted_once():
    assert compiler.collectives(CHAINED) == {"all-gather": {"count": 4, "bytes": 4 * 32}}


@needs_compiler
@pytest.mark.slow
def test_a_program_that_does_not_fit(tmp_path):
    path = tmp_path / "program.mlir"
    path.write_text(compiler._TOO_LARGE)
    found = compiler.start_compiling(str(path), find_slice("v6e-8"))()
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
