"""What a compiled program sends, counted by hand."""

from keras_vitbert.extras.ahead_of_time.collectives import collectives_of

PROGRAM = """
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
    assert collectives_of(PROGRAM) == {
        "all-reduce": {"count": 1, "bytes": block + 12 * 4},
        # Of sums, each replica gets its part alone.
        "reduce-scatter": {"count": 2, "bytes": 30 * row + block},
        # In a chain of two fusions it is one; two in a loop are ten.
        "all-gather": {"count": 1 + 2 * 5, "bytes": 11 * 16 * 4 * 2},
    }
