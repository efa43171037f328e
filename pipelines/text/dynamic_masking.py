"""Masked-LM at read time: other tokens are masked each time a text is read.

The rule is that of `pipelines.text.masking`, here in TensorFlow for the training stream.
"""

import dataclasses

from pipelines.text.masking import MASKED_RATIO, replacement_ids
from pipelines.text.wordpiece import CLS, MASK, SEP


@dataclasses.dataclass(frozen=True)
class DynamicMasking:
    """Masks a batch of texts, by random numbers that are given to it.

    Attributes:
        vocabulary: tuple of str.
        max_predictions: int, masked tokens of a text at most.
        ratio: float, the part of a text's tokens that is masked; one token at least.
        whole_word: bool, whether the pieces of a word are masked together.
    """

    vocabulary: tuple[str, ...]
    max_predictions: int
    ratio: float = MASKED_RATIO
    whole_word: bool = False

    @staticmethod
    def random_numbers(length, key):
        """What one text needs, `(3, length)` float32.

        Args:
            length: int, tokens of a text.
            key: `(2,)` int64, such as (seed, number of the text).
        """
        import tensorflow as tf

        return tf.random.stateless_uniform((3, length), key)

    def __call__(self, token_ids, padding_mask, random):
        """Masks.

        Args:
            token_ids: `(batch, length)` int32.
            padding_mask: `(batch, length)` int32, 0 for padding.
            random: `(batch, 3, length)` float32 in [0, 1), see `random_numbers`.

        Returns:
            Dict of `token_ids`, masked, and `masked_positions`, `masked_ids` (int32) and
            `masked_weights` (float32), `(batch, max_predictions)`.
        """
        import tensorflow as tf

        token = {name: self.vocabulary.index(name) for name in (CLS, SEP, MASK)}
        candidates = tf.cast(padding_mask, tf.bool)
        for special in (CLS, SEP):
            candidates &= token_ids != token[special]
        count = tf.reduce_sum(tf.cast(candidates, tf.float32), axis=1)
        limit = tf.cast(tf.maximum(tf.round(self.ratio * count), 1.0), tf.int32)
        limit = tf.minimum(limit, self.max_predictions)
        chosen = self._choose(token_ids, candidates, limit[:, None], random[:, 0])

        length = tf.shape(token_ids)[1]
        place = tf.where(chosen, tf.range(length), length)
        positions = tf.sort(place, axis=1)[:, : self.max_predictions]
        missing = self.max_predictions - tf.shape(positions)[1]  # texts may be shorter than that
        positions = tf.pad(positions, [[0, 0], [0, missing]], constant_values=length)
        weights = positions < length
        positions = tf.where(weights, positions, 0)
        ids = tf.where(weights, tf.gather(token_ids, positions, batch_dims=1), 0)

        replacements = replacement_ids(self.vocabulary)
        replaced = tf.cast(random[:, 2] * len(replacements), tf.int32)
        replaced = tf.gather(replacements, replaced)
        masked = tf.where(random[:, 1] < 0.9, replaced, token_ids)
        masked = tf.where(random[:, 1] < 0.8, token[MASK], masked)
        return {
            "token_ids": tf.where(chosen, masked, token_ids),
            "masked_positions": positions,
            "masked_ids": ids,
            "masked_weights": tf.cast(weights, tf.float32),
        }

    def _choose(self, token_ids, candidates, limit, order_by):
        """Bool `(batch, length)`: the tokens to predict. Words are numbered within their text."""
        import tensorflow as tf

        batch, length = tf.unstack(tf.shape(token_ids))
        place = tf.range(length)[None, :]
        goes_on = tf.zeros_like(candidates)
        if self.whole_word:
            is_piece = tf.constant([token.startswith("##") for token in self.vocabulary])
            after_candidate = tf.pad(candidates[:, :-1], [[0, 0], [1, 0]])
            goes_on = candidates & after_candidate & tf.gather(is_piece, token_ids)
        begins = candidates & ~goes_on
        word = tf.maximum(tf.cumsum(tf.cast(begins, tf.int32), axis=1) - 1, 0)
        size = tf.math.unsorted_segment_sum(
            tf.cast(candidates, tf.int32), word + length * tf.range(batch)[:, None], batch * length
        )
        size = tf.reshape(size, (batch, length))
        first = tf.sort(tf.where(begins, place, length), axis=1)  # where each word begins

        fits = (size > 0) & (size <= limit)
        none_fits = ~tf.reduce_any(fits, axis=1, keepdims=True)
        size = tf.where(none_fits, tf.minimum(size, limit), size)
        eligible = fits | (none_fits & (size > 0))
        by = tf.gather(order_by, tf.minimum(first, length - 1), batch_dims=1)
        order = tf.argsort(tf.where(eligible, by, 2.0), axis=1, stable=True)
        sizes = tf.gather(tf.where(eligible, size, length + 1), order, batch_dims=1)
        taken = tf.cumsum(sizes, axis=1) <= limit
        taken = tf.gather(taken, tf.argsort(order, axis=1), batch_dims=1)

        within = place - tf.gather(first, word, batch_dims=1) < tf.gather(size, word, batch_dims=1)
        return candidates & within & tf.gather(taken, word, batch_dims=1)
