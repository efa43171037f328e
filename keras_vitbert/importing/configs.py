"""The part of a Hugging Face config that says what a network computes."""

import math

from keras_vitbert.importing.activations import ACTIVATIONS
from pipelines.command_line import UserError


def checked_config(config, defaults, label, tensors):
    """The values of the keys in `defaults`, checked against the types there.

    Args:
        config: dict, the content of config.json.
        defaults: dict of key to the value that transformers use if it is missing.
        label: str, where it comes from.
        tensors: dict, those of the model.

    Returns:
        dict with the keys of `defaults`.

    Raises:
        UserError: a value is of another type, the activation is unknown, or there are more layers
            than tensors.
    """
    kept = {key: config.get(key, default) for key, default in defaults.items()}
    for key, default in defaults.items():
        value = kept[key]
        if isinstance(default, bool | str):
            good = isinstance(value, type(default))
        elif isinstance(default, int):
            good = isinstance(value, int) and not isinstance(value, bool) and value > 0
        else:
            good = isinstance(value, int | float) and 0 <= value < math.inf
        require(good, label, key, value)
    require(
        kept["hidden_act"] in ACTIVATIONS,
        label,
        "hidden_act",
        kept["hidden_act"],
        f"known are {', '.join(sorted(ACTIVATIONS))}",
    )
    heads = kept["num_attention_heads"]
    require(kept["hidden_size"] % heads == 0, label, "num_attention_heads", heads)
    layers, count = kept["num_hidden_layers"], len(tensors)
    require(layers <= count, label, "num_hidden_layers", layers, f"it has {count} tensors")
    return kept


def require(condition, label, key, value, why="which is not supported"):
    """Refuses a value of a config.

    Args:
        condition: bool, whether the value is supported.
        label: str, where the config comes from.
        key: str.
        value: the value of `key`, for the message.
        why: str, what is wrong with it.

    Raises:
        UserError: names the key, unless the condition holds.
    """
    if not condition:
        raise UserError(f"{label}: its config has {key}={value!r}; {why}: give another model")
