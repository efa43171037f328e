import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.shards.shard_files import to_example
from pipelines.text.bert_examples import encode_examples

BORDERS = [0, 1, 127, 128, 2**14 - 1, 2**14, 2**21 - 1, 2**21, 2**28 - 1, 2**28, 2**31 - 1]
# No name is the beginning of another: protocol buffers put the longer one first.
NAMES = st.lists(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
    max_size=4,
    unique_by=lambda name: name[0],
)


@st.composite
def fields(draw):
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(1, 4))
    result = {}
    for name in draw(NAMES):
        shape = count, draw(st.integers(1, 300))
        largest = draw(st.sampled_from(BORDERS))
        if draw(st.booleans()):
            values = random.integers(0, largest, shape, endpoint=True)
            borders = random.choice([border for border in BORDERS if border <= largest], shape)
            result[name] = np.where(random.random(shape) < 0.5, values, borders).astype(np.int32)
        else:
            result[name] = random.standard_normal(shape).astype(np.float32)
    return result


@settings(max_examples=25, deadline=None)
@given(fields())
def test_bytes_are_those_of_protocol_buffers(fields):
    rows = zip(*fields.values(), strict=True)
    assert encode_examples(fields) == [
        to_example(dict(zip(fields, row, strict=True))) for row in rows
    ]


def test_negative_values_are_refused():
    with pytest.raises(ValueError, match="negative"):
        encode_examples({"a": np.array([[-1]], np.int32)})
