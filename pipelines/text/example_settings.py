"""What determines BERT's pre-training examples; the recipe is in `bert_examples`."""

import dataclasses

from pipelines.text.pairs import SPECIALS_PER_EXAMPLE

MASKED_RATIO = 0.15  # Devlin et al. 2019, section 3.1
SHORT_SEQUENCE_PROBABILITY = 0.1  # appendix A.2
MIN_LENGTH = SPECIALS_PER_EXAMPLE + 2
MAX_LENGTH = 1 << 20  # examples are padded to this length, in memory


@dataclasses.dataclass(frozen=True)
class ExampleSettings:
    """What determines examples besides documents and vocabulary.

    Attributes:
        max_length: tokens of an example with its three special ones; shorter pairs are padded with
            zeros.
        max_predictions: the most masked tokens.
        seed: 0 or more.
        duplication: passes over the documents, each with other pairs and masks.
        masked_ratio: the fraction of the tokens to predict.
        short_sequence_probability: how often a pair aims at a random shorter length.
        whole_word: whether the pieces of a word are masked together.
        dynamic: whether masks are left to the reader.

    Raises:
        ValueError: the length has no room for a pair.
    """

    max_length: int
    max_predictions: int
    seed: int
    duplication: int = 1
    masked_ratio: float = MASKED_RATIO
    short_sequence_probability: float = SHORT_SEQUENCE_PROBABILITY
    whole_word: bool = False
    dynamic: bool = False

    def __post_init__(self):
        if self.max_length < MIN_LENGTH:
            raise ValueError(f"max_length is {self.max_length}, must be at least {MIN_LENGTH}")
