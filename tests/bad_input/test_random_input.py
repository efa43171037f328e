"""Random values of a config: a `ValueError`, or they are read."""

import contextlib
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from keras_vitbert.configs.sample import get_config
from keras_vitbert.configs.sections import flatten
from tests.keras_vitbert.configs.command_lines import parse

ODD = [None, 0, -1, 2**31, 2**70, 1e308, float("nan"), "", "1", [], [[1]], {}, {"a": -1}]


@settings(max_examples=50, derandomize=True, deadline=None)
@given(
    st.one_of(st.sampled_from([*flatten(get_config())]), st.text(max_size=9)),
    st.one_of(st.text(max_size=9), *(st.sampled_from(ODD).map(text) for text in (str, json.dumps))),
)
def test_overrides(key, value):
    with contextlib.suppress(ValueError):
        parse(f"--config.{key}={value}")
