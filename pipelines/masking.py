"""Masked-LM: which tokens of an example are to be predicted, and what is put in their place."""

import numpy as np

from pipelines.vocabulary import MASK, SPECIAL_TOKENS


class Masking:
    """Chooses the tokens to predict: 80 % become [MASK], 10 % a random token, 10 % stay.

    Args:
        vocabulary: list of str.
        max_predictions: int, masked tokens of an example at most.
        ratio: float, the part of an example's tokens that is masked; one token at least.
    """

    def __init__(self, vocabulary, max_predictions, ratio):
        self._mask = vocabulary.index(MASK)
        # Google's vocabularies hold some hundred [unusedN] tokens that no text has.
        self._replacements = np.array(
            [
                index
                for index, token in enumerate(vocabulary)
                if token not in SPECIAL_TOKENS and not token.startswith("[unused")
            ]
        )
        self._max_predictions = max_predictions
        self._ratio = ratio

    def __call__(self, input_ids, first, second, random):
        """Masks one example.

        Args:
            input_ids: int64 array `(max_length,)`, `[CLS] A [SEP] B [SEP]` and padding.
            first: int, the number of tokens of A.
            second: int, the number of tokens of B.
            random: `numpy.random.Generator`.

        Returns:
            Dict of NumPy arrays: `input_ids`, a masked copy, and `masked_lm_positions`,
            `masked_lm_ids` and `masked_lm_weights`.
        """
        count = min(self._max_predictions, max(1, round(self._ratio * (first + second))))
        chosen = np.sort(random.permutation(first + second)[:count])
        count = len(chosen)
        positions = chosen + 1 + (chosen >= first)  # past [CLS], and past [SEP] for the second

        masked = input_ids.copy()
        fate = random.random(count)
        replacements = random.choice(self._replacements, count)
        masked[positions] = np.where(
            fate < 0.8, self._mask, np.where(fate < 0.9, replacements, input_ids[positions])
        )
        fields = {
            "input_ids": masked,
            "masked_lm_positions": np.zeros(self._max_predictions, np.int64),
            "masked_lm_ids": np.zeros(self._max_predictions, np.int64),
            "masked_lm_weights": np.zeros(self._max_predictions, np.float32),
        }
        fields["masked_lm_positions"][:count] = positions
        fields["masked_lm_ids"][:count] = input_ids[positions]
        fields["masked_lm_weights"][:count] = 1
        return fields
