"""What `model` may set besides sizes: the order of norms, the activation, the kinds of heads.

The names are those of `keras_vitbert.model`. Command lines do not load it: that takes seconds.
"""

NORMS = ("pre", "post")
ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "silu", "tanh")
IMAGE_HEADS = ("paper", "vit", "deit")
TEXT_HEADS = ("paper", "bert")
RATES = ("dropout", "attention_dropout", "stochastic_depth")  # of units dropped in training
ATTENTION_DROPOUT = "must be in [0, 1), or -1: as dropout"

# Values for a model that does not set them, such as that of a run of an older version.
DEFAULTS = {
    "attention_dropout": -1.0,
    "stochastic_depth": 0.0,
    "norm": "pre",
    "activation": "gelu",
    "layer_norm_epsilon": 1e-6,
    "num_segments": 2,
    "patch_bias": False,
    "prefix_tokens": 1,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "embedding_scale": 1.0,
    "image_head": "paper",
    "text_head": "paper",
}
_NUMBER = (int, float)


def is_attention_dropout(rate):
    """Whether a value is a rate of dropout on attention weights.

    Args:
        rate: anything.
    """
    return isinstance(rate, _NUMBER) and (rate == -1 or 0 <= rate < 1)


def problems(model):
    """What is wrong with the architecture of a model.

    Args:
        model: mapping, the `model` section of a config or of a run's record.

    Returns:
        dict of a key to what its value must be; empty if all are right.
    """
    found = {name: model.get(name, default) for name, default in DEFAULTS.items()}
    wrong = {}

    def require(condition, name, fix):
        if not condition:
            wrong[name] = fix

    for name, known in (
        ("norm", NORMS),
        ("activation", ACTIVATIONS),
        ("image_head", IMAGE_HEADS),
        ("text_head", TEXT_HEADS),
    ):
        require(found[name] in known, name, f"must be one of {', '.join(known)}")
    is_rate = is_attention_dropout(found["attention_dropout"])
    require(is_rate, "attention_dropout", ATTENTION_DROPOUT)
    rate = found["stochastic_depth"]
    is_rate = isinstance(rate, _NUMBER) and 0 <= rate < 1
    require(is_rate, "stochastic_depth", "must be in [0, 1)")
    epsilon = found["layer_norm_epsilon"]
    require(
        isinstance(epsilon, _NUMBER) and 0 < epsilon < 1, "layer_norm_epsilon", "must be in (0, 1)"
    )
    scale = found["embedding_scale"]
    fits = isinstance(scale, _NUMBER) and 0 < scale <= 1000
    require(fits, "embedding_scale", "must be in (0, 1000]")
    segments, tokens = found["num_segments"], found["prefix_tokens"]
    fix = "must be 0 (none) or from 2 to 1000"
    require(type(segments) is int and (segments == 0 or 2 <= segments <= 1000), "num_segments", fix)
    fix = "must be 1, or 2 with DeiT's second token"
    require(type(tokens) is int and tokens in (1, 2), "prefix_tokens", fix)
    require(isinstance(found["patch_bias"], bool), "patch_bias", "must be True or False")
    for name in ("image_mean", "image_std"):
        values = found[name]
        are_numbers = isinstance(values, list | tuple) and all(
            isinstance(value, _NUMBER) and abs(value) < 1e6 for value in values
        )
        are_three = are_numbers and len(values) == 3 and (name == "image_mean" or all(values))
        require(are_three, name, "must be three numbers, for image_std all non-zero")
    if not wrong and found["image_head"] == "deit":
        require(tokens == 2, "image_head", "needs prefix_tokens=2")
    return wrong
