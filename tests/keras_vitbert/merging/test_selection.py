import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_vitbert.merging import selection
from keras_vitbert.merging.selection import smallest
from tests.keras_vitbert.training import reference

SHAPES = [(3, 4), (5,), (2, 1, 2)]
SIZE = 21


@pytest.fixture(scope="module")
def compiled():
    """`smallest` for `SHAPES`, traced once."""
    return tf.function(
        lambda values, candidates, count: smallest(values, candidates, count),
        input_signature=[
            [tf.TensorSpec(s, tf.float32) for s in SHAPES],
            [tf.TensorSpec(s, tf.bool) for s in SHAPES],
            tf.TensorSpec((), tf.int32),
        ],
    )


def arrays(flat, dtype):
    shapes = [np.zeros(s) for s in SHAPES]
    return reference.split_like(np.array(flat, dtype), shapes)


def check(compiled, values, candidates, count):
    marks = compiled(values, candidates, count)
    kept = [c & ~m.numpy() for c, m in zip(candidates, marks, strict=True)]
    expected = reference.algorithm_1(candidates, values, int(count))
    for mark, candidate, keep, expect in zip(marks, candidates, kept, expected, strict=True):
        assert not np.any(mark.numpy() & ~candidate)
        np.testing.assert_array_equal(keep, expect)
    assert sum(np.count_nonzero(m) for m in marks) == count


NAN, INF = np.float32("nan"), np.float32("inf")
FEW = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, NAN, -NAN, INF, -INF])  # NaNs come last
ANY = st.floats(width=32, allow_nan=False)


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(st.data())
def test_is_the_sort_by_magnitude_and_place(compiled, data):
    size = {"min_size": SIZE, "max_size": SIZE}
    values = data.draw(st.lists(st.one_of(FEW, ANY), **size))
    candidates = data.draw(st.lists(st.booleans(), **size))
    count = data.draw(st.integers(0, sum(candidates)))
    check(compiled, arrays(values, np.float32), arrays(candidates, bool), np.int32(count))


@pytest.mark.parametrize("exact", [1, 4])
def test_tensors_with_more_entries_than_float32_can_count(monkeypatch, exact):
    """They are counted in parts: along the first axis, or the first ones."""
    monkeypatch.setattr(selection, "_EXACT", exact)
    rng = np.random.default_rng(exact)
    values = rng.normal(size=SIZE).round(1).astype(np.float32)
    candidates = arrays(rng.random(SIZE) < 0.8, bool)
    parts = selection._sums(tf.constant(candidates[0]))
    assert len(parts) == 12 // exact and sum(parts) == candidates[0].sum()
    check(smallest, arrays(values, np.float32), candidates, np.int32(9))


def test_compiled_it_holds_no_places():
    """XLA is given what TensorFlow can compute before: numbers of places would be constants."""
    select = tf.function(
        lambda values: smallest([values], [values > 0], tf.constant(3)), jit_compile=True
    )
    lowered = select.experimental_get_compiler_ir(tf.ones((500, 500)))
    assert len(lowered(stage="stablehlo_serialized")) < 4 * 500 * 500 / 10
