"""The part of a Hugging Face config that determines what a network computes."""

import math

# Hugging Face's names of activations to those of `keras_vitbert.model.activations`. Google's BERT
# and ViT approximate GELU by tanh, although BERT's own config calls that `gelu` too; see `google`.
ACTIVATIONS = {
    **dict.fromkeys(("gelu", "gelu_python"), "gelu"),
    **dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_fast"), "gelu_tanh"),
    **dict.fromkeys(("silu", "swish"), "silu"),
    "relu": "relu",
    "tanh": "tanh",
}
_MAY_BE_0 = ("type_vocab_size",)


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
        ValueError: a value is of another type, the activation is unknown, or there are more layers
            than tensors.
    """
    kept = {key: config.get(key, default) for key, default in defaults.items()}
    for key, default in defaults.items():
        value = kept[key]
        if isinstance(default, bool | str):
            good = isinstance(value, type(default))
        elif isinstance(default, int):
            good = isinstance(value, int) and not isinstance(value, bool)
            good = good and value >= (key not in _MAY_BE_0)
        elif key.endswith("dropout_prob"):
            good = isinstance(value, int | float) and 0 <= value < 1
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
        ValueError: names the key, unless the condition holds.
    """
    if not condition:
        raise ValueError(f"{label}: its config has {key}={value!r}; {why}: give another model")
