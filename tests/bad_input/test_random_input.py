"""Random content in the files that a user may bring: a `ValueError`, or it is read."""

import contextlib
import functools
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_vitbert.configs.sample import get_config
from keras_vitbert.configs.sections import flatten
from keras_vitbert.runs.run_folder import RunFolder
from tests.bad_input.places import SAVED
from tests.keras_vitbert.configs.command_lines import parse

EXAMPLES = 25  # of each kind; the same ones in every run
random_input = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

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


def paths(content, prefix=()):
    """The place of every value in a JSON object."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield (*prefix, key)
        if isinstance(value, dict | list):
            yield from paths(value, (*prefix, key))


@st.composite
def spoilt(draw, content):
    """The text of a JSON object with other values at one to three places, or without them."""
    content = json.loads(content)
    for _ in range(draw(st.integers(1, 3))):
        *sections, key = draw(st.sampled_from([*paths(content)]))
        part = functools.reduce(lambda part, section: part[section], sections, content)
        if draw(st.booleans()):
            part[key] = draw(VALUES)
        elif len(content) > 1:
            del part[key]
    return json.dumps(content)


def refused():
    return contextlib.suppress(ValueError)


def test_config_json_of_a_run(tmp_path):
    @random_input
    @given(spoilt((SAVED / "run" / "config.json").read_text()))
    def check(text):
        (tmp_path / "config.json").write_text(text)
        with refused():
            RunFolder(str(tmp_path)).record()

    check()


@random_input
@given(
    st.one_of(st.sampled_from([*flatten(get_config())]), st.text(max_size=9)),
    st.one_of(st.text(max_size=9), VALUES.map(str), VALUES.map(json.dumps)),
)
def test_overrides(key, value):
    with refused():
        parse(f"--config.{key}={value}")
