"""Masked-LM: which tokens of a text are to be predicted, and what replaces them.

The rule, for a text of `n` candidates, its tokens without [CLS], [SEP] and padding:

1. At most `k = min(max_predictions, max(1, round(ratio * n)))` tokens are chosen. The product is
   taken in 32-bit floats, and `round` rounds halves to even.
2. A word is a candidate and the `##` pieces that follow it; without `whole_word` every candidate
   is a word. [CLS] and [SEP] end words, so a segment that was cut inside a word begins with a word.
3. Words of more than `k` tokens are never chosen. The others are taken in random order, every order
   equally likely, as long as they fit into `k` tokens whole. The first that does not fit ends it.
4. If every word has more than `k` tokens, a random word's first `k` tokens are chosen. So at least
   one token is chosen.
5. Of the chosen tokens, each independently, 80 % become [MASK], 10 % become a random token of the
   vocabulary (never a special or an `[unusedN]` one) and 10 % stay.
6. Predictions are listed in ascending order of their positions and padded with zeros.

The rule is implemented twice: in NumPy for files, where that is several times as fast, and in
TensorFlow for the training stream.
"""

import dataclasses
import functools
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.text.wordpiece import CLS, MASK, MASKED_RATIO, SEP, SPECIAL_TOKENS


@dataclasses.dataclass(frozen=True)
class Masking:
    """Masks a batch of texts by the rule above: once, or anew each time they are read."""

    vocabulary: tuple[str, ...]
    max_predictions: int
    ratio: float = MASKED_RATIO
    whole_word: bool = False

    def static(
        self, input_ids: np.ndarray, input_mask: np.ndarray, random: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Masks texts with at least one candidate before they are written; see `dynamic`."""
        candidates = input_mask.astype(bool)
        for special in (CLS, SEP):
            candidates &= input_ids != self.vocabulary.index(special)
        count = candidates.sum(axis=1, keepdims=True).astype(np.float32)
        limit = np.maximum(1, np.rint(np.float32(self.ratio) * count).astype(int))
        limit = np.minimum(self.max_predictions, limit)
        chosen = self._choose_here(input_ids, candidates, limit, random.random(input_ids.shape))

        row, position = np.nonzero(chosen)
        before = input_ids[row, position]
        fate = random.random(len(before))
        replacements = random.integers(len(self._replacements), size=len(before))
        replaced = np.where(fate < 0.9, self._replacements[replacements], before)
        masked = input_ids.copy()
        masked[row, position] = np.where(fate < 0.8, self.vocabulary.index(MASK), replaced)

        count = chosen.sum(axis=1)
        column = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        fields = {"input_ids": masked}
        for name, values in (("positions", position), ("ids", before), ("weights", np.float32(1))):
            dtype = np.float32 if name == "weights" else np.int32
            padded = np.zeros((len(input_ids), self.max_predictions), dtype)
            padded[row, column] = values
            fields[f"masked_lm_{name}"] = padded
        return fields

    def dynamic(
        self, input_ids: tf.Tensor, input_mask: tf.Tensor, random: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Masks texts when they are read.

        Args:
            input_ids: `(batch, length)` int32.
            input_mask: `(batch, length)` int32, 0 for padding.
            random: `(batch, 3, length)` float32 in [0, 1).

        Returns:
            Dict of `input_ids`, a masked copy, and, `(batch, max_predictions)`,
            `masked_lm_positions`, `masked_lm_ids` (int32) and `masked_lm_weights` (float32, 1 for
            a prediction and 0 for padding).
        """
        candidates = tf.cast(input_mask, tf.bool)
        for special in (CLS, SEP):
            candidates &= input_ids != self.vocabulary.index(special)
        count = tf.reduce_sum(tf.cast(candidates, tf.float32), axis=1, keepdims=True)
        limit = tf.cast(tf.maximum(tf.round(self.ratio * count), 1.0), tf.int32)
        limit = tf.minimum(limit, self.max_predictions)
        chosen = self._choose_in_graph(input_ids, candidates, limit, random[:, 0])

        replacements = tf.cast(random[:, 2] * len(self._replacements), tf.int32)
        replacements = tf.gather(self._replacements, replacements)
        masked = tf.where(random[:, 1] < 0.9, replacements, input_ids)
        masked = tf.where(random[:, 1] < 0.8, self.vocabulary.index(MASK), masked)

        length = tf.shape(input_ids)[1]
        positions = tf.where(chosen, tf.range(length), length)
        positions = -tf.math.top_k(-positions, tf.minimum(length, self.max_predictions)).values
        missing = self.max_predictions - tf.shape(positions)[1]  # texts may be shorter than that
        margins: Any = [[0, 0], [0, missing]]
        positions = tf.pad(positions, margins, constant_values=length)
        weights = positions < length
        positions = tf.where(weights, positions, 0)
        return {
            "input_ids": tf.where(chosen, masked, input_ids),
            "masked_lm_positions": positions,
            "masked_lm_ids": tf.where(weights, tf.gather(input_ids, positions, batch_dims=1), 0),
            "masked_lm_weights": tf.cast(weights, tf.float32),
        }

    @functools.cached_property
    def _replacements(self) -> np.ndarray:
        """The ids of the tokens that may replace others, int32 array."""
        # Google's vocabularies hold some hundred [unusedN] tokens that no text has.
        is_word = [t not in SPECIAL_TOKENS and not t.startswith("[unused") for t in self.vocabulary]
        return np.flatnonzero(is_word).astype(np.int32)

    @functools.cached_property
    def _is_piece(self) -> np.ndarray:
        return np.array([token.startswith("##") for token in self.vocabulary])

    def _choose_here(
        self,
        input_ids: np.ndarray,
        candidates: np.ndarray,
        limit: np.ndarray,
        order_by: np.ndarray,
    ) -> np.ndarray:
        """Bool `(batch, length)`: the tokens to predict. `order_by` orders the words."""
        if not self.whole_word:  # words of one token always fit
            order_by[~candidates] = 2
            smallest = np.sort(order_by, axis=1)
            return order_by < np.take_along_axis(smallest, limit, axis=1)

        length = candidates.shape[1]
        place, row = np.arange(length)[None, :], length * np.arange(len(candidates))[:, None]
        begins = candidates.copy()
        begins[:, 1:] &= ~(candidates[:, :-1] & self._is_piece[input_ids[:, 1:]])
        first = np.maximum.accumulate(np.where(begins, place, 0), axis=1)  # of each token's word
        size = np.bincount((row + first)[candidates], minlength=candidates.size)[row + first]

        fits = begins & (size <= limit)
        none_fits = ~fits.any(axis=1, keepdims=True)
        size = np.where(none_fits, np.minimum(size, limit), size)
        eligible = fits | (none_fits & begins)
        order = np.argsort(np.where(eligible, order_by, 2), axis=1)
        sizes = np.take_along_axis(np.where(eligible, size, length + 1), order, axis=1)
        taken = np.zeros_like(candidates)
        np.put_along_axis(taken, order, np.cumsum(sizes, axis=1) <= limit, axis=1)
        return candidates & (place - first < size) & np.take_along_axis(taken, first, axis=1)

    def _choose_in_graph(
        self, input_ids: tf.Tensor, candidates: tf.Tensor, limit: tf.Tensor, order_by: tf.Tensor
    ) -> tf.Tensor:
        """The same in TensorFlow."""
        batch, length = tf.unstack(tf.shape(input_ids))
        place, row = tf.range(length)[None, :], length * tf.range(batch)[:, None]
        begins, first, size = candidates, place, tf.ones_like(input_ids)  # of each token's word
        if self.whole_word:
            after_candidate = tf.pad(candidates[:, :-1], [[0, 0], [1, 0]])
            begins &= ~(after_candidate & tf.gather(self._is_piece, input_ids))
            word = row + tf.maximum(tf.cumsum(tf.cast(begins, tf.int32), axis=1) - 1, 0)
            first = tf.where(begins, place, length - 1)
            first = tf.gather(tf.math.unsorted_segment_min(first, word, batch * length), word)
            size = tf.cast(candidates, tf.int32)
            size = tf.gather(tf.math.unsorted_segment_sum(size, word, batch * length), word)

        fits = begins & (size <= limit)
        none_fits = ~tf.reduce_any(fits, axis=1, keepdims=True)
        size = tf.where(none_fits, tf.minimum(size, limit), size)
        eligible = fits | (none_fits & begins)
        order_by = tf.where(eligible, order_by, tf.constant(2, order_by.dtype))
        order = tf.math.top_k(-order_by, tf.minimum(length, self.max_predictions)).indices
        sizes = tf.gather(tf.where(eligible, size, length + 1), order, batch_dims=1)
        taken = tf.boolean_mask(row + order, tf.cumsum(sizes, axis=1) <= limit)
        taken = tf.scatter_nd(taken[:, None], tf.ones_like(taken), [batch * length])
        return candidates & (place - first < size) & (tf.gather(taken, row + first) > 0)
