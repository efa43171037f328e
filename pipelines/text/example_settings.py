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
        max_length: int, tokens of an example with its three special ones; shorter pairs are
            padded with zeros.
        max_predictions: int, the most masked tokens.
        seed: int, 0 or more.
        duplication: int, passes over the documents, each with other pairs and masks.
        masked_ratio: float, the fraction of the tokens to predict.
        short_sequence_probability: float, how often a pair aims at a random shorter length.
        whole_word: bool, whether the pieces of a word are masked together.
        dynamic: bool, whether masks are left to the reader.

    Raises:
        ValueError: the length has no room for a pair, or is above `MAX_LENGTH`.
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
            raise ValueError(
                f"a length of {self.max_length} has no room for two segments; give {MIN_LENGTH} or "
                "more"
            )
        if self.max_length > MAX_LENGTH:
            raise ValueError(f"a length of {self.max_length}: give {MAX_LENGTH:,} at most")
