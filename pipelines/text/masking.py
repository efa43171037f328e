"""Masked-LM: which tokens of an example are to be predicted, and what is put in their place.

The rule, for an example of `n` tokens without [CLS], [SEP] and padding, the candidates:

1. `k = min(max_predictions, max(1, round(ratio * n)))` tokens are chosen at most. The product is
   one of 32-bit floats, and `round` takes halves to the even neighbour, so that the training
   stream can do the same in TensorFlow.
2. A word is a candidate and the `##` pieces that follow it; without `whole_word` every candidate
   is a word. [CLS] and [SEP] end words, so a segment that was cut inside a word begins with a word.
3. Words of more than `k` tokens are never chosen. The others are gone through in random order,
   every order equally likely, and chosen as long as they fit into `k` tokens whole; the first that
   does not fit ends it.
4. Where every word has more than `k` tokens, a random word's first `k` tokens are chosen. So at
   least one token is.
5. Of the chosen tokens, each by itself, 80 % become [MASK], 10 % a random token of the vocabulary
   (never a special or an `[unusedN]` one) and 10 % stay.
6. Predictions are listed in ascending order of their positions and padded with zeros.
"""

import numpy as np

from pipelines.text.wordpiece import MASK, SPECIAL_TOKENS

MASKED_RATIO = 0.15  # Devlin et al. 2019, section 3.1


def replacement_ids(vocabulary):
    """The ids of the tokens that may be put in the place of others: int32 array."""
    # Google's vocabularies hold some hundred [unusedN] tokens that no text has.
    return np.array(
        [
            index
            for index, token in enumerate(vocabulary)
            if token not in SPECIAL_TOKENS and not token.startswith("[unused")
        ],
        np.int32,
    )


class Masking:
    """Chooses the tokens to predict, by the rule above.

    Args:
        vocabulary: list of str.
        max_predictions: int, masked tokens of an example at most.
        ratio: float, the part of an example's tokens that is masked; one token at least.
        whole_word: bool, whether the pieces of a word are masked together.
    """

    def __init__(self, vocabulary, max_predictions, ratio, whole_word=False):
        self._mask = vocabulary.index(MASK)
        self._replacements = replacement_ids(vocabulary)
        self._is_piece = np.array([token.startswith("##") for token in vocabulary])
        self._max_predictions = max_predictions
        self._ratio = ratio
        self._whole_word = whole_word

    def __call__(self, input_ids, candidates, random):
        """Masks examples.

        Args:
            input_ids: int32 array `(count, length)`.
            candidates: bool array `(count, length)`, true for the tokens that may be predicted,
                one at least in each example.
            random: `numpy.random.Generator`.

        Returns:
            Dict of NumPy arrays: `input_ids`, a masked copy, and, `(count, max_predictions)`,
            `masked_lm_positions`, `masked_lm_ids` (int32) and `masked_lm_weights` (float32, 1 for
            a prediction and 0 for padding).
        """
        counts = candidates.sum(axis=1).astype(np.float32)
        limits = np.maximum(1, np.rint(np.float32(self._ratio) * counts).astype(np.int64))
        limits = np.minimum(self._max_predictions, limits)
        chosen = self._choose(input_ids, candidates, limits, random)

        example, position = np.nonzero(chosen)
        before = input_ids[example, position]
        fate = random.random(len(before))
        replacements = self._replacements[random.integers(len(self._replacements), size=len(fate))]
        masked = input_ids.copy()
        masked[example, position] = np.where(
            fate < 0.8, self._mask, np.where(fate < 0.9, replacements, before)
        )

        counts = chosen.sum(axis=1)
        column = np.arange(len(example)) - np.repeat(np.cumsum(counts) - counts, counts)
        shape = len(input_ids), self._max_predictions
        fields = {
            "input_ids": masked,
            "masked_lm_positions": np.zeros(shape, np.int32),
            "masked_lm_ids": np.zeros(shape, np.int32),
            "masked_lm_weights": np.zeros(shape, np.float32),
        }
        fields["masked_lm_positions"][example, column] = position
        fields["masked_lm_ids"][example, column] = before
        fields["masked_lm_weights"][example, column] = 1
        return fields

    def _choose(self, input_ids, candidates, limits, random):
        """Bool array `(count, length)`: the tokens to predict."""
        order_by = random.random(candidates.shape)
        if not self._whole_word:
            # Words of one token always fit: the `limits` smallest numbers are chosen.
            order_by[~candidates] = 2
            smallest = np.sort(order_by, axis=1)
            return order_by < np.take_along_axis(smallest, limits[:, None], axis=1)

        place = np.arange(candidates.shape[1])
        goes_on = candidates & self._is_piece[input_ids]
        goes_on[:, 1:] &= candidates[:, :-1]
        goes_on[:, 0] = False
        begins = candidates & ~goes_on
        head = np.maximum.accumulate(np.where(begins, place, 0), axis=1)  # where the word begins
        # A word ends where the next one begins or the candidates end.
        borders = np.where(goes_on, len(place), place)
        after = np.minimum.accumulate(borders[:, ::-1], axis=1)[:, ::-1]
        after = np.concatenate([after[:, 1:], np.full((len(after), 1), len(place))], axis=1)
        size = after - place  # of the word that begins here

        limits = limits[:, None]
        fits = begins & (size <= limits)
        only_long = ~fits.any(axis=1, keepdims=True)
        size = np.where(only_long, np.minimum(size, limits), size)
        order = np.argsort(np.where(fits | (only_long & begins), order_by, 2), axis=1)
        sizes = np.where(
            np.take_along_axis(fits | (only_long & begins), order, axis=1),
            np.take_along_axis(size, order, axis=1),
            len(place) + 1,
        )
        taken = np.zeros_like(candidates)
        np.put_along_axis(taken, order, np.cumsum(sizes, axis=1) <= limits, axis=1)
        within = place - head < np.take_along_axis(size, head, axis=1)
        return candidates & within & np.take_along_axis(taken, head, axis=1)
