"""Encodes raw strings as a model's inputs with TensorFlow operations, also in a served graph."""

import tensorflow as tf

from pipelines.text.tokenization import wordpiece_tokenizer
from pipelines.text.wordpiece import CLS, MASK, PAD, SEP


class TextEncoder:
    """Encodes `[CLS] A [SEP]` or `[CLS] A [SEP] B [SEP]`, for training, prediction and serving.

    Args:
        vocabulary: sequence of str.
        max_length: int, the most tokens of a text, special ones included.
        lower_case: bool, as when the vocabulary was learned.

    Attributes:
        mask_id: int, the id of `[MASK]`.
    """

    def __init__(self, vocabulary, max_length, lower_case=True):
        vocabulary = tuple(vocabulary)
        self._max_length = max_length
        self._tokenizer = wordpiece_tokenizer(vocabulary, lower_case)
        self._pad, self._cls, self._sep, self.mask_id = map(vocabulary.index, (PAD, CLS, SEP, MASK))

    def tokenize(self, texts, masks=False):
        """Splits texts into WordPiece tokens, without special tokens around them.

        Args:
            texts: string tensor `(batch,)`.
            masks: bool, whether `[MASK]` in a text is that token. In training it is not: it is
                three tokens like any others.

        Returns:
            int32 `RaggedTensor` `(batch, None)`.
        """
        if not masks:
            return self._tokenizer.tokenize(texts)
        # The parts between masks are tokenized separately, and a mask is put after each part.
        parts = tf.strings.split(texts, MASK)
        tokens = self._tokenizer.tokenize(parts.flat_values)
        tokens = tf.concat([tokens, _column(self.mask_id, tokens.nrows())], axis=1)
        return parts.with_flat_values(tokens).merge_dims(1, 2)[:, :-1]

    def __call__(self, first, second=None, is_pair=True, masks=False):
        """Encodes a batch.

        Args:
            first, second: string tensors `(batch,)`, the segments A and B.
            is_pair: bool or scalar bool tensor; where false, `second` is left out.
            masks: bool, see `tokenize`.

        Returns:
            dict of `token_ids`, `segment_ids`, `padding_mask` `(batch, longest)` int32, where
            `longest` is the length of the batch's longest text. If a text is longer than
            `max_length`, its longer segment loses one token at a time from its end, B if both are
            equally long, as in BERT's `create_pretraining_data.py` and `run_classifier.py`.
        """
        is_pair = tf.convert_to_tensor(False if second is None else is_pair)
        second = first if second is None else second
        a = self.tokenize(first, masks)
        b = self.tokenize(tf.where(is_pair, second, ""), masks)
        room = self._max_length - 2 - tf.cast(is_pair, tf.int64)
        kept_a = tf.minimum(a.row_lengths(), tf.maximum(room - b.row_lengths(), room - room // 2))
        kept_b = tf.minimum(b.row_lengths(), room - kept_a)
        # By hand: `tf_text.combine_segments` and ragged masks make twice as many operations.
        rows, one_if_pair = a.nrows(), tf.cast(is_pair, tf.int64)
        last = tf.RaggedTensor.from_row_lengths(
            tf.fill((rows * one_if_pair,), self._sep), tf.fill((rows,), one_if_pair)
        )
        first_column, separators = _column(self._cls, rows), _column(self._sep, rows)
        tokens = tf.concat(
            [first_column, _cut(a, kept_a), separators, _cut(b, kept_b), last], axis=1
        )
        token_ids = tokens.to_tensor(self._pad)
        place = tf.range(tf.shape(token_ids, tf.int64)[1])[None]
        is_real = place < tokens.row_lengths()[:, None]
        is_second = is_real & (place >= kept_a[:, None] + 2)
        return {
            "token_ids": token_ids,
            "segment_ids": tf.cast(is_second, tf.int32),
            "padding_mask": tf.cast(is_real, tf.int32),
        }


def _column(token, rows):
    return tf.RaggedTensor.from_tensor(tf.fill((rows, 1), token))


def _cut(tokens, lengths):
    """The first `lengths` tokens of each row."""
    place = tf.ragged.range(tokens.row_lengths()).flat_values
    kept = tf.boolean_mask(tokens.flat_values, place < tf.repeat(lengths, tokens.row_lengths()))
    return tf.RaggedTensor.from_row_lengths(kept, lengths)
