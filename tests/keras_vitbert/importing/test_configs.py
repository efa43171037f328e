"""The part of a Hugging Face config that says what a network computes."""

import math

import pytest

from keras_vitbert.importing.configs import checked_config

DEFAULTS = {
    "hidden_size": 12,
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "is_decoder": False,
}
TENSORS = {"a": 1, "b": 2}


def test_what_is_missing_is_the_default_and_what_is_unknown_is_dropped():
    assert checked_config({}, DEFAULTS, "m", TENSORS) == DEFAULTS
    given = {"hidden_size": 8, "num_attention_heads": 4, "layer_norm_eps": 0, "transformers": "5"}
    kept = {"hidden_size": 8, "num_attention_heads": 4, "layer_norm_eps": 0}
    assert checked_config(given, DEFAULTS, "m", TENSORS) == {**DEFAULTS, **kept}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("hidden_size", value) for value in (0, -12, 12.0, "12", True, None)),
        *(("layer_norm_eps", value) for value in (-1e-12, "1e-12", None, math.inf)),
        ("num_hidden_layers", 3),
        *(("is_decoder", value) for value in (0, "no", None)),
        *(("hidden_act", value) for value in ("quick_gelu", None, 3)),
        *(("num_attention_heads", value) for value in (5, 24)),  # which do not divide 12
    ],
)
def test_what_is_not_taken_is_named(key, value):
    with pytest.raises(ValueError) as caught:
        checked_config({key: value}, DEFAULTS, "m", TENSORS)
    message = str(caught.value)
    assert message.startswith(f"m: its config has {key}={value!r}; ")
    assert message.endswith(": give another model")
