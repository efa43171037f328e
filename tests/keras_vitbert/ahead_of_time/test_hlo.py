"""The work of compiled programs: by hand, and against XLA's own count."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

from keras_vitbert.ahead_of_time import hlo
from tests.keras_vitbert.ahead_of_time.results import needs_compiler

PROGRAM = """
HloModule step, is_scheduled=true

%half (p.0: f32[64,128]) -> f32[8,128] {
  %p.0 = f32[64,128]{1,0:T(8,128)} parameter(0)
  ROOT %s = f32[8,128]{1,0:T(8,128)} slice(%p.0), slice={[0:8], [0:128]}
}

%product (a: bf16[16,128], w: bf16[128,256]) -> (bf16[16,256], f32[16]) {
  %a = bf16[16,128]{1,0:T(8,128)(2,1)} parameter(0)
  %w = bf16[128,256]{1,0:T(8,128)(2,1)} parameter(1)
  %c = bf16[16,256]{1,0:T(8,128)(2,1)} convolution(%a, %w), dim_labels=bf_io->bf
  %n = f32[16]{0:T(256)} custom-call(%a), custom_call_target="x"
  ROOT %t = (bf16[16,256]{1,0:T(8,128)(2,1)}, f32[16]{0:T(256)}) tuple(%c, %n)
}

%body (b.0: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %b.0 = (s32[]{:T(256)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %b.1 = f32[8,128]{1,0:T(8,128)} get-tuple-element(%b.0), index=1
  ROOT %b.2 = f32[8,128]{1,0:T(8,128)} negate(%b.1), metadata={op_name="loop/Neg;other"}
}

%left (l: f32[8,128]) -> f32[8,128] {
  %l = f32[8,128]{1,0:T(8,128)} parameter(0)
  ROOT %l.1 = f32[8,128]{1,0:T(8,128)} add(%l, %l), metadata={op_name="left"}
}

%right (r: f32[8,128]) -> f32[8,128] {
  %r = f32[8,128]{1,0:T(8,128)} parameter(0)
  ROOT %r.1 = f32[8,128]{1,0:T(8,128)} negate(%r), metadata={op_name="right"}
}

ENTRY %main (x: f32[64,128], a: bf16[16,128], w: bf16[128,256]) -> f32[8,128] {
  %x = f32[64,128]{1,0:T(8,128)} parameter(0)
  %a = bf16[16,128]{1,0:T(8,128)(2,1)} parameter(1)
  %w = bf16[128,256]{1,0:T(8,128)(2,1)} parameter(2)
  %f.1 = f32[8,128]{1,0:T(8,128)} fusion(%x), kind=kLoop, calls=%half, metadata={op_name="cut"}
  %f.2 = (bf16[16,256]{1,0:T(8,128)(2,1)}, f32[16]{0:T(256)}) fusion(%a, /*index=1*/%w), \
kind=kOutput, calls=%product, metadata={op_name="dense/MatMul" source_line=3}, \
backend_config={"flags":[],"estimated_cycles":"700"}
  %copy = (f32[8,128]{1,0:T(8,128)S(1)}, f32[8,128]{1,0:T(8,128)}, u32[]) copy-start(%f.1)
  %done = f32[8,128]{1,0:T(8,128)S(1)} copy-done(%copy)
  %t = (s32[]{:T(256)}, f32[8,128]{1,0:T(8,128)}) tuple(%zero, %done)
  %loop = (s32[]{:T(256)}, f32[8,128]{1,0:T(8,128)}) while(%t), condition=%less, body=%body, \
backend_config={"known_trip_count":{"n":"5"}}
  ROOT %end = f32[8,128]{1,0:T(8,128)} conditional(%p, %f.1, %f.1), \
branch_computations={%left, %right}
}
"""


def test_the_work_of_a_program_by_hand():
    block = 8 * 128 * 4
    assert hlo.work_of(PROGRAM) == [
        hlo.Work("cut", 2 * block, 0, 0),  # of 64 rows it reads 8
        hlo.Work(
            "dense/MatMul",
            2 * (16 * 128 + 128 * 256 + 16 * 256) + 4 * 256,
            2 * 16 * 128 * 256,
            700,
        ),
        hlo.Work("", 2 * block, 0, 0),  # begun and ended; written once
        hlo.Work("loop/Neg", 5 * 2 * block, 0, 0),
        hlo.Work("left", 3 * block, 0, 0),  # of two branches the one with more
    ]


SENT = """
%add (l: f32[], r: f32[]) -> f32[] {
  %l = f32[]{:T(256)} parameter(0)
  %r = f32[]{:T(256)} parameter(1)
  ROOT %s = f32[]{:T(256)} add(%l, %r)
}

%all-reduce-scatter.1 (whole: f32[30,128]) -> f32[8,128] {
  %whole = f32[30,128]{1,0:T(8,128)} parameter(0)
  %pad = f32[32,128]{1,0:T(8,128)} pad(%whole, %zero), padding=0_2x0_0
  %all = f32[32,128]{1,0:T(8,128)} all-reduce(%pad), channel_id=7, to_apply=%add
  ROOT %own = f32[8,128]{1,0:T(8,128)} dynamic-slice(%all, %place, %zero)
}

%chained.1 (part: bf16[4,4]) -> bf16[16,4] {
  %part = bf16[4,4]{1,0} parameter(0)
  ROOT %g = bf16[16,4]{1,0} all-gather(%part), channel_id=8, frontend_attributes={chain_id="2"}
}

%chained.2 (x: f32[8,128], part: bf16[4,4]) -> (f32[8,128], bf16[4,4], bf16[16,4]) {
  %x = f32[8,128]{1,0:T(8,128)} parameter(0)
  %part = bf16[4,4]{1,0:T(8,128)(2,1)} parameter(1)
  %n = f32[8,128]{1,0:T(8,128)} negate(%x)
  %g = bf16[16,4]{1,0:T(8,128)(2,1)} all-gather(%part), channel_id=8, \
frontend_attributes={chain_id="2"}
  ROOT %t = (f32[8,128]{1,0:T(8,128)}, bf16[4,4]{1,0}, bf16[16,4]{1,0}) tuple(%n, %part, %g)
}

%body (b.0: (s32[], bf16[4,4])) -> (s32[], bf16[4,4]) {
  %b.0 = (s32[]{:T(256)}, bf16[4,4]{1,0}) parameter(0)
  %b.1 = bf16[4,4]{1,0} get-tuple-element(%b.0), index=1
  %b.2 = bf16[16,4]{1,0} all-gather(%b.1), channel_id=1
  %b.3 = (bf16[4,4]{1,0}, bf16[16,4]{1,0}) all-gather-start(%b.1), channel_id=1
  ROOT %b.4 = (s32[]{:T(256)}, bf16[4,4]{1,0}) tuple(%one, %b.1)
}

ENTRY %main (x: f32[8,128], y: bf16[3,4], whole: f32[30,128], part: bf16[4,4]) -> f32[8,128] {
  %x = f32[8,128]{1,0:T(8,128)} parameter(0)
  %y = bf16[3,4]{1,0:T(8,128)(2,1)} parameter(1)
  %whole = f32[30,128]{1,0:T(8,128)} parameter(2)
  %part = bf16[4,4]{1,0:T(8,128)(2,1)} parameter(3)
  %sums = (f32[8,128]{1,0:T(8,128)}, /*index=1*/f32[3,4]{1,0}) all-reduce-start(%x, %y), \
to_apply=%add
  %done = (f32[8,128]{1,0:T(8,128)}, f32[3,4]{1,0}) all-reduce-done(%sums)
  %moved = (bf16[3,4]{1,0}, bf16[3,4]{1,0}, u32[]{:S(2)}) collective-permute-start(%y)
  %own = f32[8,128]{1,0:T(8,128)} fusion(%whole), kind=kCustom, calls=%all-reduce-scatter.1
  %rows = f32[2,128]{1,0:T(2,128)} reduce-scatter(%x), dimensions={0}, to_apply=%add
  %g.1 = bf16[16,4]{1,0} fusion(%part), kind=kCustom, calls=%chained.1
  %g.2 = (f32[8,128]{1,0:T(8,128)}, bf16[4,4]{1,0:T(8,128)(2,1)}, \
bf16[16,4]{1,0:T(8,128)(2,1)}) fusion(%x, %part), kind=kOutput, \
output_to_operand_aliasing={{1}: (1, {})}, calls=%chained.2
  %loop = (s32[]{:T(256)}, bf16[4,4]{1,0}) while(%t), condition=%less, body=%body, \
backend_config={"known_trip_count":{"n":"5"}}
  ROOT %cut = ((f32[8,128]{1,0:T(8,128)}), f32[4,128]{1,0:T(4,128)}) slice-start(%x)
}
"""


def test_what_a_program_sends_by_hand():
    block, row = 8 * 128 * 4, 128 * 4
    assert hlo.collectives_of(SENT) == {
        "all-reduce": {"count": 1, "bytes": block + 12 * 4},
        "collective-permute": {"count": 1, "bytes": 12 * 2},
        # Of sums, each replica gets its part alone.
        "reduce-scatter": {"count": 2, "bytes": 30 * row + block},
        # In a chain of two fusions it is one; two in a loop are ten.
        "all-gather": {"count": 1 + 2 * 5, "bytes": 11 * 16 * 4 * 2},
    }


def test_what_a_chain_has_is_not_moved_again():
    block, gathered = 8 * 128 * 4, 16 * 128 * 2  # with the padding of tiles
    works = [work.bytes for work in hlo.work_of(SENT)]
    assert 2 * block + gathered in works  # of the second fusion, which does not read the part
    assert works[-1] == block  # half of a block is copied


@pytest.mark.parametrize(
    "type_, expected",
    [
        ("f32[]{:T(256)}", 1024),
        ("f32[2]", 8),
        ("pred[3,5]{1,0}", 15),
        ("bf16[16,17,128]{2,0,1:T(8,128)(2,1)}", 16 * 17 * 128 * 2),
        ("bf16[16,17,128]{2,1,0:T(8,128)(2,1)}", 16 * 24 * 128 * 2),
        ("f32[128,4,32]{0,2,1:T(8,128)S(1)}", 128 * 4 * 32 * 4),
        ("(s32[8,10]{1,0:T(8,128)}, /*index=1*/u8[7])", 8 * 128 * 4 + 7),
    ],
)
def test_sizes_with_the_padding_of_tiles(type_, expected):
    assert hlo.size_of(type_) == expected


@pytest.mark.parametrize(
    "labels, window, left, right, result",
    [
        ("b01f_01io->b01f", "size=3x3 pad=1_1x1_1", (2, 5, 6, 4), (3, 3, 4, 7), (2, 5, 6, 7)),
        ("b0f_0io->b0f", "size=4 stride=2 pad=1_2", (2, 9, 3), (4, 3, 5), (2, 5, 5)),
        ("b0f_0io->b0f", "size=2 pad=3_3 rhs_dilate=3", (1, 4, 3), (2, 3, 5), (1, 7, 5)),
        ("b0f_0io->b0f", "size=3 lhs_dilate=2", (1, 4, 3), (3, 3, 5), (1, 5, 5)),
        ("bf_io->bf", "", (6, 3), (3, 5), (6, 5)),
    ],
)
def test_the_products_of_convolutions(labels, window, left, right, result):
    """Against counting those of a convolution that is written out."""
    attributes = f", dim_labels={labels}" + (f", window={{{window}}}" if window else "")
    options = dict(part.split("=") for part in window.split())
    axes = len(labels.split("_")[1].split("-")[0]) - 2

    def of(name, default):
        return options[name].split("x") if name in options else [default] * axes

    padding = [pad.split("_") for pad in of("pad", "0_0")]
    strides, spread, gaps = (
        [int(n) for n in of(name, 1)] for name in ("stride", "rhs_dilate", "lhs_dilate")
    )
    # 1 where there is a number of the input, 0 for padding and between them.
    present = np.ones(())
    for axis in range(axes):
        line = np.zeros((left[1 + axis] - 1) * gaps[axis] + 1)
        line[:: gaps[axis]] = 1
        line = np.pad(line, [int(n) for n in padding[axis]])
        present = np.multiply.outer(present, line)
    count = 0
    for place in itertools.product(*(range(n) for n in result[1 : 1 + axes])):
        for k in itertools.product(*(range(n) for n in right[:axes])):
            at = tuple(p * s + i * d for p, s, i, d in zip(place, strides, k, spread, strict=True))
            count += int(present[at]) * left[0] * left[-1] * result[-1]
    assert hlo._products(attributes, list(left), list(right), list(result)) == count > 0


@needs_compiler
@pytest.mark.slow
def test_what_xla_counts():
    """Of a joint step, compiled for a TPU: bytes as it counts them, operations in its products."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.keras_vitbert.ahead_of_time.work_script"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(found)
    for name, (ours, theirs) in found.items():
        # Tables of tuples are not counted here.
        assert ours == pytest.approx(theirs, rel=0.01), name
