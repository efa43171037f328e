"""Encoder sizes by name."""

SIZES = {
    "sample": {"num_layers": 2, "num_heads": 4, "hidden_dim": 128, "intermediate_dim": 512},
    "tiny": {"num_layers": 12, "num_heads": 3, "hidden_dim": 192, "intermediate_dim": 768},
    "small": {"num_layers": 12, "num_heads": 6, "hidden_dim": 384, "intermediate_dim": 1536},
    "base": {"num_layers": 12, "num_heads": 12, "hidden_dim": 768, "intermediate_dim": 3072},
    "large": {"num_layers": 24, "num_heads": 16, "hidden_dim": 1024, "intermediate_dim": 4096},
}


def encoder_size(name):
    """The encoder arguments of `ViTBertBackbone`.

    Args:
        name: str, a key of `SIZES`.

    Raises:
        ValueError: unknown name.
    """
    if name not in SIZES:
        raise ValueError(f"unknown size {name!r}; known are {', '.join(SIZES)}")
    return dict(SIZES[name])
