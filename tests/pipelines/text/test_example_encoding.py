import numpy as np
import pytest

from pipelines.shards.shard_files import to_example
from pipelines.text.bert_examples import encode_examples

# Around these, one more byte is needed for a number.
BORDERS = [0, 1, 127, 128, 2**14 - 1, 2**14, 2**21 - 1, 2**21, 2**28 - 1, 2**28, 2**31 - 1]


@pytest.mark.parametrize("length", [1, 5, 127, 128, 300, 20_000])
@pytest.mark.parametrize("name", ["a", "ü" * 70])
def test_bytes_are_those_of_protocol_buffers(name, length):
    """No name is the beginning of another: protocol buffers put the longer one first."""
    random = np.random.default_rng(length)
    fields = {
        name: random.choice(BORDERS, (3, length)).astype(np.int32),
        "small": random.integers(0, 200, (3, length), np.int32),
        "float": random.standard_normal((3, length)).astype(np.float32),
        "zero": np.zeros((3, 1), np.int32),
    }
    rows = zip(*fields.values(), strict=True)
    expected = [to_example(dict(zip(fields, row, strict=True))) for row in rows]
    assert encode_examples(fields) == expected


def test_negative_values_are_refused():
    with pytest.raises(ValueError, match="negative"):
        encode_examples({"a": np.array([[-1]], np.int32)})
