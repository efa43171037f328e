"""Raw strings to a model's inputs, in the graph: for serving, where nothing is known before."""

import tensorflow as tf
import tensorflow_text as tf_text

from pipelines.text.tokenization import wordpiece_tokenizer
from pipelines.text.wordpiece import CLS, MASK, PAD, SEP


class TextEncoder:
    """Encodes `[CLS] A [SEP]` or `[CLS] A [SEP] B [SEP]`, as `LabelledTexts.encode` does.

    Args:
        vocabulary: sequence of str.
        max_length: int, tokens of a text at most, the special ones included.
        lower_case: bool, as the vocabulary was learned.

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
            masks: bool, whether `[MASK]` in a text is that token. In training it is not: there
                these are three tokens like any others.

        Returns:
            int32 `RaggedTensor` `(batch, None)`.
        """
        if not masks:
            return self._tokenizer.tokenize(texts)
        # What lies between the masks is tokenized by itself, and a mask is put behind each part.
        parts = tf.strings.split(texts, MASK)
        tokens = self._tokenizer.tokenize(parts.flat_values)
        mask = tf.fill((tokens.nrows(), 1), self.mask_id)
        tokens = tf.concat([tokens, tf.RaggedTensor.from_tensor(mask)], axis=1)
        return parts.with_flat_values(tokens).merge_dims(1, 2)[:, :-1]

    def __call__(self, first, second=None, is_pair=True, masks=False):
        """Encodes a batch.

        Args:
            first, second: string tensors `(batch,)`, the segments A and B.
            is_pair: bool or scalar bool tensor; where false, `second` is left out.
            masks: bool, see `tokenize`.

        Returns:
            dict of `token_ids`, `segment_ids`, `padding_mask` `(batch, longest)` int32, where
            `longest` is the length of the batch's longest text. Texts that are longer than
            `max_length` are cut as in training: the longer segment first, at its end.
        """
        is_pair = tf.convert_to_tensor(False if second is None else is_pair)
        second = first if second is None else second
        a = self.tokenize(first, masks)
        b = self.tokenize(tf.where(is_pair, second, ""), masks)
        room = self._max_length - 2 - tf.cast(is_pair, tf.int64)
        # The same as `labelled_texts.cut_lengths`.
        kept_a = tf.minimum(a.row_lengths(), tf.maximum(room - b.row_lengths(), room - room // 2))
        kept_b = tf.minimum(b.row_lengths(), room - kept_a)
        tokens, segments = tf_text.combine_segments(
            [_cut(a, kept_a), _cut(b, kept_b)], self._cls, self._sep
        )
        # Without B its [SEP] goes too.
        kept = tokens.row_lengths() - tf.cast(~is_pair, tf.int64)
        tokens, segments = _cut(tokens, kept), _cut(segments, kept)
        return {
            "token_ids": tokens.to_tensor(self._pad),
            "segment_ids": segments.to_tensor(),
            "padding_mask": tf.ones_like(tokens).to_tensor(),
        }


def _cut(tokens, lengths):
    """The first so many tokens of each row."""
    return tf.ragged.boolean_mask(
        tokens, tf.ragged.range(tokens.row_lengths()) < lengths[:, tf.newaxis]
    )
