"""Texts as token ids: of documents in flat arrays, and of a model's inputs, also in a served graph.

`PortableTokenizer` is WordPiece without TensorFlow Text: the same ids, from Hugging Face's
`tokenizers`. `tensorflow_text.FastBertTokenizer` changes each character independently of its
neighbours. So it differs from other BERT tokenizers only in a table of characters. We apply its
rules first, and `tokenizers` then finds the pieces of the words.
"""

import dataclasses
import functools
import itertools
import os
import unicodedata
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.text import tf_text
from pipelines.text.documents import Document, split_sentences
from pipelines.text.wordpiece import CLS, MASK, PAD, SEP, UNKNOWN

_SENTENCES_PER_CALL = 4096
_RAGGED: Any = tf.RaggedTensor  # its stubs lack the constructors

MAX_WORD_BYTES = 100  # FastBertTokenizer's; longer words are [UNK]
_TOO_LONG = "x" * (MAX_WORD_BYTES + 1)  # stands for these, as `tokenizers` counts characters

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


@dataclasses.dataclass(frozen=True)
class TokenizedDocuments:
    """Documents of sentences of tokens. None is empty."""

    tokens: np.ndarray  # int32, the ids of all sentences, one after another
    sentences: np.ndarray  # int64, where each begins in `tokens`, and the end of the last
    documents: np.ndarray  # int64, where each begins in `sentences`, and the end of the last

    def __len__(self) -> int:
        return len(self.documents) - 1


@functools.lru_cache(maxsize=4)  # a worker tokenizes many units
def wordpiece_tokenizer(vocabulary: tuple[str, ...], lower_case: bool = True) -> Any:
    """`tensorflow_text.FastBertTokenizer` or, if that package is missing, `PortableTokenizer`.

    Both give the same int32 ids.
    """
    module = tf_text.find()
    if module is None:
        return PortableTokenizer(vocabulary, lower_case)
    with tf.init_scope():  # it may be requested in one graph and then in another
        return module.FastBertTokenizer(
            list(vocabulary), token_out_type=tf.int32, lower_case_nfd_strip_accents=lower_case
        )


def tokenize_documents(
    documents: Iterable[Document], vocabulary: Iterable[str], lower_case: bool = True
) -> TokenizedDocuments:
    """Splits documents into sentences and these into tokens; leaves out what has no token."""
    tokenizer = wordpiece_tokenizer(tuple(vocabulary), lower_case)
    sentences = (
        (index, sentence)
        for index, document in enumerate(documents)
        for sentence in sentences_of(document)
    )
    tokens, lengths, homes = [], [], []
    while batch := list(itertools.islice(sentences, _SENTENCES_PER_CALL)):
        ids = tokenizer.tokenize([sentence for _, sentence in batch])
        tokens.append(ids.flat_values.numpy())
        lengths.append(np.diff(ids.row_splits.numpy()))
        homes.append(np.array([index for index, _ in batch]))
    lengths, homes = (np.concatenate([*each, np.zeros(0, int)]) for each in (lengths, homes))
    kept = lengths > 0
    return TokenizedDocuments(
        np.concatenate([*tokens, np.zeros(0, np.int32)]),
        _offsets(lengths[kept]),
        _offsets(np.unique(homes[kept], return_counts=True)[1]),
    )


def sentences_of(document: Document) -> Iterable[str]:
    """The sentences of a document."""
    if document.split:
        return document.paragraphs
    return itertools.chain.from_iterable(map(split_sentences, document.paragraphs))


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


class TextEncoder:
    """Encodes `[CLS] A [SEP]` or `[CLS] A [SEP] B [SEP]`, for training, prediction and serving.

    `max_length` is the most tokens of a text, special ones included.
    """

    def __init__(self, vocabulary: Iterable[str], max_length: int, lower_case: bool = True) -> None:
        vocabulary = tuple(vocabulary)
        self._max_length = max_length
        self._tokenizer = wordpiece_tokenizer(vocabulary, lower_case)
        self._pad, self._cls, self._sep, self.mask_id = map(vocabulary.index, (PAD, CLS, SEP, MASK))

    def tokenize(self, texts: tf.Tensor, masks: bool = False) -> Any:
        """Splits texts `(batch,)` into tokens: ragged int32 `(batch, None)`.

        With `masks`, `[MASK]` in a text is that token; in training it is three like any others.
        """
        if not masks:
            return self._tokenizer.tokenize(texts)
        # What lies between masks is tokenized separately, and a mask is put after each piece.
        pieces: Any = tf.strings.split(texts, MASK)
        tokens = self._tokenizer.tokenize(pieces.flat_values)
        tokens = tf.concat([tokens, _column(self.mask_id, tokens.nrows())], axis=1)
        return pieces.with_flat_values(tokens).merge_dims(1, 2)[:, :-1]

    def __call__(
        self,
        first: tf.Tensor,
        second: tf.Tensor | None = None,
        is_pair: bool | tf.Tensor = True,
        masks: bool = False,
    ) -> dict[str, tf.Tensor]:
        """Encodes a batch of segments A and B; B is left out where `is_pair` is false.

        Returns `token_ids`, `segment_ids`, `padding_mask` `(batch, longest)` int32. If a text is
        longer than `max_length`, its longer segment loses one token at a time from its end, B if
        both are equally long, as in BERT's `create_pretraining_data.py` and `run_classifier.py`.
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
        last = _RAGGED.from_row_lengths(
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


def _column(token: int, rows: tf.Tensor) -> tf.RaggedTensor:
    return _RAGGED.from_tensor(tf.fill((rows, 1), token))


def _cut(tokens: Any, lengths: tf.Tensor) -> tf.RaggedTensor:
    """The first `lengths` tokens of each row."""
    place = tf.ragged.range(tokens.row_lengths()).flat_values
    kept = tf.boolean_mask(tokens.flat_values, place < tf.repeat(lengths, tokens.row_lengths()))
    return _RAGGED.from_row_lengths(kept, lengths)


class PortableTokenizer:
    """Stands in for `tensorflow_text.FastBertTokenizer` with int32 ids.

    Characters newer than the Unicode version that Python or TensorFlow Text knows (2.19: those
    since Unicode 13) may be split differently.

    In a graph it is a `tf.numpy_function`: it runs in this process and cannot be exported.
    """

    def __init__(self, vocabulary: Iterable[str], lower_case: bool = True) -> None:
        # Its threads would only compete with TensorFlow's, and it warns in processes that fork.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        from tokenizers import Tokenizer, models

        ids = {token: number for number, token in enumerate(vocabulary)}
        self._words = Tokenizer(
            models.WordPiece(ids, unk_token=UNKNOWN, max_input_chars_per_word=MAX_WORD_BYTES)
        )
        self._characters = _Characters(lower_case)

    def tokenize(self, texts: tf.Tensor | list[str]) -> tf.RaggedTensor:
        """Splits texts `(batch,)` into WordPiece tokens: int32 `(batch, None)`."""
        texts = tf.convert_to_tensor(texts, tf.string)
        ids, lengths = tf.numpy_function(
            self._ids, [texts], (tf.int32, tf.int64), stateful=False, name="tokenize"
        )
        ids, lengths = tf.ensure_shape(ids, (None,)), tf.ensure_shape(lengths, texts.shape)
        return _RAGGED.from_row_lengths(ids, lengths, validate=False)

    def _ids(self, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ids of all texts, one after another, and how many each has."""
        words = [self._split(text.decode(errors="surrogateescape")) for text in texts]
        encoded = self._words.encode_batch(words, is_pretokenized=True, add_special_tokens=False)
        rows = [one.ids for one in encoded]
        lengths = np.array([len(row) for row in rows], np.int64)
        return np.array([number for row in rows for number in row], np.int32), lengths

    def _split(self, text: str) -> list[str]:
        """The words of a text, including its punctuation marks and ideographs."""
        words = text.translate(self._characters).split()
        return [word if _is_short(word) else _TOO_LONG for word in words]


class _Characters(dict):
    """What replaces each character, for `str.translate`; computed when it is first met.

    Control characters become spaces, and punctuation and ideographs get spaces around them.
    """

    def __init__(self, lower_case: bool) -> None:
        super().__init__()
        self._lower_case = lower_case

    def __missing__(self, code: int) -> str:
        if 0xD800 <= code < 0xE000:  # a byte that is not UTF-8
            self[code] = _NO_TOKEN
        else:
            text = folded(code) if self._lower_case else chr(code)
            self[code] = "".join(map(isolated, text))
        return self[code]


def folded(code: int) -> str:
    """A character by Unicode's NFKC_Casefold, decomposed and without its accents."""
    if _is_in(code, _IGNORABLE):
        return ""
    lower = unicodedata.normalize("NFKC", chr(code)).casefold()
    decomposed = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", lower))
    return "".join(one for one in decomposed if unicodedata.category(one) != "Mn")


def isolated(character: str) -> str:
    """Replaces a control character by a space; puts spaces around one that is a word by itself."""
    category = unicodedata.category(character)
    if category in ("Cc", "Cf"):
        return " "
    is_symbol = character.isascii() and character.isprintable() and not character.isalnum()
    if category[0] == "P" or is_symbol or _is_in(ord(character), _IDEOGRAPHS):
        return f" {character} "
    return character


def _is_in(code: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= code <= last for first, last in ranges)


def _is_short(word: str) -> bool:
    return len(word) <= MAX_WORD_BYTES // 4 or len(word.encode()) <= MAX_WORD_BYTES
