"""WordPiece without TensorFlow Text: the same ids, from Hugging Face's `tokenizers`.

`tensorflow_text.FastBertTokenizer` changes each character independently of its neighbours. So it
differs from other BERT tokenizers only in a table of characters. This module applies its rules
first, and `tokenizers` then finds the pieces of the words.
"""

import os
import unicodedata

import numpy as np
import tensorflow as tf

from pipelines.text.wordpiece import UNKNOWN

_MAX_WORD_BYTES = 100  # FastBertTokenizer's; longer words are [UNK]
_TOO_LONG = "x" * (_MAX_WORD_BYTES + 1)  # stands for these, as `tokenizers` counts characters

_NO_TOKEN = "\uffff"  # a character that no vocabulary has: its word is [UNK]

# Default_Ignorable_Code_Point of Unicode, without the accents, which are dropped in any case.
_IGNORABLE = (
    *((0xAD, 0xAD), (0x61C, 0x61C), (0x115F, 0x1160), (0x180B, 0x180F), (0x200B, 0x200F)),
    *((0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0)),
    *((0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
)
# Ideographs, each a word; BERT's ranges.
_IDEOGRAPHS = (
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF)),
    *((0x2A700, 0x2CEAF), (0x2F800, 0x2FA1F)),
)


class PortableTokenizer:
    """Stands in for `tensorflow_text.FastBertTokenizer` with int32 ids.

    Characters newer than the Unicode version that Python or TensorFlow Text knows (2.19: those
    since Unicode 13) may be split differently.

    In a graph it is a `tf.numpy_function`: it runs in this process and cannot be exported.

    Args:
        vocabulary: sequence of str.
        lower_case: bool, as when the vocabulary was learned: also strips accents.
    """

    def __init__(self, vocabulary, lower_case=True):
        # Its threads would only compete with TensorFlow's, and it warns in processes that fork.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        from tokenizers import Tokenizer, models

        ids = {token: number for number, token in enumerate(vocabulary)}
        self._words = Tokenizer(
            models.WordPiece(ids, unk_token=UNKNOWN, max_input_chars_per_word=_MAX_WORD_BYTES)
        )
        self._characters = _Characters(lower_case)

    def tokenize(self, texts):
        """Splits texts into WordPiece tokens.

        Args:
            texts: string tensor `(batch,)`, or list of str.

        Returns:
            int32 `RaggedTensor` `(batch, None)`.
        """
        texts = tf.convert_to_tensor(texts, tf.string)
        ids, lengths = tf.numpy_function(
            self._ids, [texts], (tf.int32, tf.int64), stateful=False, name="tokenize"
        )
        ids, lengths = tf.ensure_shape(ids, (None,)), tf.ensure_shape(lengths, texts.shape)
        return tf.RaggedTensor.from_row_lengths(ids, lengths, validate=False)

    def _ids(self, texts):
        """The ids of all texts, one after another, and how many each has."""
        words = [self._split(text.decode(errors="surrogateescape")) for text in texts]
        encoded = self._words.encode_batch(words, is_pretokenized=True, add_special_tokens=False)
        rows = [one.ids for one in encoded]
        lengths = np.array([len(row) for row in rows], np.int64)
        return np.array([number for row in rows for number in row], np.int32), lengths

    def _split(self, text):
        """The words of a text, including its punctuation marks and ideographs."""
        words = text.translate(self._characters).split()
        return [word if _is_short(word) else _TOO_LONG for word in words]


class _Characters(dict):
    """What replaces each character, for `str.translate`; computed when it is first met.

    Args:
        lower_case: bool, whether letters lose their case and accents. Control characters always
            become spaces, and punctuation and ideographs always get spaces around them.
    """

    def __init__(self, lower_case):
        super().__init__()
        self._lower_case = lower_case

    def __missing__(self, code):
        if 0xD800 <= code < 0xE000:  # a byte that is not UTF-8
            self[code] = _NO_TOKEN
        else:
            text = _folded(code) if self._lower_case else chr(code)
            self[code] = "".join(map(_isolated, text))
        return self[code]


def _folded(code):
    """A character by Unicode's NFKC_Casefold, decomposed and without its accents."""
    if _is_in(code, _IGNORABLE):
        return ""
    folded = unicodedata.normalize("NFKC", chr(code)).casefold()
    parts = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", folded))
    return "".join(part for part in parts if unicodedata.category(part) != "Mn")


def _isolated(character):
    """Replaces a control character by a space; puts spaces around one that is a word by itself."""
    category = unicodedata.category(character)
    if category in ("Cc", "Cf"):
        return " "
    is_symbol = character.isascii() and character.isprintable() and not character.isalnum()
    if category[0] == "P" or is_symbol or _is_in(ord(character), _IDEOGRAPHS):
        return f" {character} "
    return character


def _is_in(code, ranges):
    return any(first <= code <= last for first, last in ranges)


def _is_short(word):
    return len(word) <= _MAX_WORD_BYTES // 4 or len(word.encode()) <= _MAX_WORD_BYTES
