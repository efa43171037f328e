"""Whether tensors match an architecture: what is missing, left over, or of another shape."""

import ml_dtypes
import numpy as np
import pytest

from keras_vitbert.trained.tensors import account

WANTED = {"a": (2, 3), "b": (4,), "head": (None, 3)}


def tensors(**changes):
    made = {"a": np.ones((2, 3)), "b": np.arange(4.0), "head": np.ones((7, 3)), **changes}
    return {name: value for name, value in made.items() if value is not None}


def accounted(**changes):
    return account(tensors(**changes), WANTED, r"pooler\..*", "BertModel")


def test_all_are_there():
    found = accounted(b=np.arange(4, dtype=np.float16))
    assert list(found) == list(WANTED)
    assert {value.dtype for value in found.values()} == {np.dtype("float32")}
    np.testing.assert_array_equal(found["b"], [0, 1, 2, 3])
    assert "pooler.weight" not in accounted(**{"pooler.weight": np.ones(1)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"a": None}, r"it lacks 1 tensor: a$"),
        ({"a": None, "b": None}, r"it lacks 2 tensors: a, b$"),
        ({"x": np.ones(1)}, r"it has 1 unknown tensor: x$"),
        ({"xpooler.w": np.ones(1)}, r"it has 1 unknown tensor: xpooler\.w$"),
        ({"a": np.ones((3, 2))}, r"it has 1 tensor: a \(3, 2\) instead of \(2, 3\)$"),
        ({"head": np.ones(3)}, r"it has 1 tensor: head \(3\) instead of \(any, 3\)$"),
        (
            {"b": None, "x": np.ones(1), "a": np.ones(1)},
            r"it lacks 1 tensor: b; it has 1 unknown tensor: x; it has 1 tensor: a \(1\) instead",
        ),
        (
            {f"x{n}": np.ones(1) for n in range(7)},
            r"it has 7 unknown tensors: x0, x1, x2, x3 and 3 more$",
        ),
    ],
)
def test_what_does_not_add_up_is_listed(changes, message):
    with pytest.raises(ValueError, match=f"^is not the BertModel of its config: {message}"):
        accounted(**changes)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(value):
    with pytest.raises(ValueError, match="^BertModel: 1 tensor: b .* not finite"):
        accounted(b=np.array([0, 1, value, 3]))


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64, bool])
def test_integers_are_not_cast(kind):
    """They may be quantised weights, whose scale lies elsewhere."""
    with pytest.raises(ValueError, match="1 tensor: b of integers"):
        accounted(b=np.ones(4, kind))
    assert accounted(b=np.ones(4, ml_dtypes.bfloat16))["b"].dtype == np.float32
