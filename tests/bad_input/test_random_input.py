"""Random values of a config: a `ValueError`, or they are read."""

import contextlib
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from keras_vitbert.configs.sample import get_config
from keras_vitbert.configs.sections import flatten
from tests.keras_vitbert.configs.command_lines import parse

VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from([0, -1, 1, 2**31, 10**9, "", "1", [], {}, 1e308]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=4,
)


@settings(max_examples=50, derandomize=True, deadline=None)
@given(
    st.one_of(st.sampled_from([*flatten(get_config())]), st.text(max_size=9)),
    st.one_of(st.text(max_size=9), VALUES.map(str), VALUES.map(json.dumps)),
)
def test_overrides(key, value):
    with contextlib.suppress(ValueError):
        parse(f"--config.{key}={value}")
