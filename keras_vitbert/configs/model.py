"""The `model` section: sizes by name, and architectures other than the paper's."""

import dataclasses
from typing import Any

from keras_vitbert.configs.sections import Section, choice, ranged

SIZES: dict[str, dict[str, Any]] = {
    "sample": {"num_layers": 2, "num_heads": 4, "hidden_dim": 128, "intermediate_dim": 512},
    "tiny": {"num_layers": 12, "num_heads": 3, "hidden_dim": 192, "intermediate_dim": 768},
    "small": {"num_layers": 12, "num_heads": 6, "hidden_dim": 384, "intermediate_dim": 1536},
    "base": {"num_layers": 12, "num_heads": 12, "hidden_dim": 768, "intermediate_dim": 3072},
    "large": {"num_layers": 24, "num_heads": 16, "hidden_dim": 1024, "intermediate_dim": 4096},
}
# Sizes that follow from the data where they are 0, with the paper's values.
PAPER_SIZES: dict[str, int] = {
    "num_classes": 1_000,
    "vocabulary_size": 30_000,
    "max_sequence_length": 512,
}
# The names below are those of `keras_vitbert.model`, which takes seconds to load.
NORMS = ("pre", "post")
ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "silu", "tanh")
IMAGE_HEADS = ("paper", "vit", "deit")
TEXT_HEADS = ("paper", "bert")
RATES = ("dropout", "attention_dropout", "stochastic_depth")  # of units dropped in training
AS_DROPOUT = -1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model(Section):
    """The architecture; the paper's base model but for what its data decide."""

    num_layers: int = ranged(12, "[1, inf)")
    num_heads: int = ranged(12, "[1, inf)")
    hidden_dim: int = ranged(768, "[1, inf)")
    intermediate_dim: int = ranged(3072, "[1, inf)")
    image_size: int = ranged(224, "[1, inf)")  # pixels
    patch_size: int = ranged(16, "[1, inf)")  # pixels
    num_classes: int = ranged(0, "[0, inf)")  # 0: as many as the data have; without data 1,000
    # 0: as many as the vocabulary has; without data 30,000
    vocabulary_size: int = ranged(0, "[0, inf)")
    # Tokens; 0: as long as the texts; without data 512
    max_sequence_length: int = ranged(0, "[0, inf)")
    dropout: float = ranged(0.1, "[0, 1)")
    attention_dropout: float = AS_DROPOUT  # of attention weights; -1: as dropout
    stochastic_depth: float = ranged(0.0, "[0, 1)")  # of the last block; less in earlier ones
    # Architectures other than the paper's, such as those of checkpoints to start from:
    norm: str = choice("pre", NORMS)  # or post: LayerNorm after each sum, as in BERT
    activation: str = choice("gelu", ACTIVATIONS)  # or gelu_tanh, relu, silu, tanh
    layer_norm_epsilon: float = ranged(1e-6, "(0, 1)")  # not in the paper
    num_segments: int = 2  # 0: none, as in DistilBERT
    patch_bias: bool = False  # of the projection, as in ViT
    prefix_tokens: int = ranged(1, "[1, 2]")  # 2: with the distillation token of DeiT
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # of each channel, not in the paper
    image_std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    # Of words, positions and segments; small models learn text sooner with 50.
    embedding_scale: float = ranged(1.0, "(0, 1000]")
    image_head: str = choice("paper", IMAGE_HEADS)  # or vit, deit
    text_head: str = choice("paper", TEXT_HEADS)  # or bert

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_multiple("hidden_dim", "num_heads")
        self.require_multiple("image_size", "patch_size")
        check_attention_dropout(self)
        self.require(
            self.num_segments == 0 or self.num_segments > 1, "num_segments", "0 or above 1"
        )
        self.require(all(self.image_std), "image_std", "three numbers other than 0")
        if self.image_head == "deit":
            self.require(self.prefix_tokens == 2, "prefix_tokens", "2 with image_head=deit")


def check_attention_dropout(section: Section) -> None:
    """Requires a rate, or `AS_DROPOUT`."""
    if section.value("attention_dropout") != AS_DROPOUT:
        section.require_within("[0, 1)", "attention_dropout")
