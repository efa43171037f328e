"""Reads BERT pre-training examples, with Google's field names or Model Garden's.

Examples written without masks are masked when they are read.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from pipelines.cores import available_cores
from pipelines.shards.records import BadRecord, RecordFiles
from pipelines.shards.shuffled_records import ShuffledRecords
from pipelines.text.masking import Masking
from pipelines.text.wordpiece import vocabulary_hash

_ALTERNATIVES = {"input_ids": "input_word_ids", "segment_ids": "input_type_ids"}  # Model Garden's
_NAMES = {  # in the files: in a batch
    "input_ids": "token_ids",
    "segment_ids": "segment_ids",
    "input_mask": "padding_mask",
    "masked_lm_positions": "masked_positions",
    "masked_lm_ids": "masked_ids",
    "masked_lm_weights": "masked_weights",
    "next_sentence_labels": "next_sentence_labels",
}
_MASK_FIELDS = ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights")
_AS_MANY_AS = {  # fields that hold as many values as another
    **dict.fromkeys(("segment_ids", "input_mask"), "input_ids"),
    **dict.fromkeys(("masked_lm_ids", "masked_lm_weights"), "masked_lm_positions"),
}
_BATCH = 64  # examples parsed together where the stream holds single ones


@dataclasses.dataclass(frozen=True)
class TextStream:
    """BERT examples in TFRecord files.

    Attributes:
        records: `RecordFiles`.
        fields: tuple of (name in the files, name in a batch, number of values).
        vocabulary_size: int.
        masking: `Masking` for examples that have no masks, else None.
        cache: bool, whether the records are kept in memory once they are read.
    """

    records: RecordFiles
    fields: tuple[tuple[str, str, int], ...]
    vocabulary_size: int
    masking: Masking | None = None
    cache: bool = False

    @classmethod
    def open(
        cls, records, vocabulary, vocabulary_size, max_sequence_length, masking=None, cache=False
    ):
        """Finds field names and lengths in the first record.

        Args:
            records: `RecordFiles`.
            vocabulary: list of str, which the manifest must agree with.
            vocabulary_size: int, entries of the model's vocabulary.
            max_sequence_length: int, the most tokens that the model takes; 0 for no limit.
            masking: dict of `max_predictions`, `ratio` and `whole_word`, see `Masking`, for
                examples without masks.
            cache: bool, see the class.

        Returns:
            `TextStream`.

        Raises:
            ValueError: the texts are too long for the model, or were made with another vocabulary.
            BadRecord: a field is missing.
        """
        _check_vocabulary(records, vocabulary)
        features = records.first_example().features.feature
        fields, sizes = [], {}
        has_masks = any(name in features for name in _MASK_FIELDS)
        for name, batch_name in _NAMES.items():
            if name in _MASK_FIELDS and not has_masks:
                continue
            stored = name if name in features else _ALTERNATIVES.get(name, name)
            if stored not in features:
                reason = f"its records have no field {name!r} but {sorted(features)}"
                raise BadRecord(records.files[0], reason)
            kind = _kind(name)
            size = sizes[name] = len(getattr(features[stored], f"{kind}_list").value)
            wanted = 1 if name == "next_sentence_labels" else sizes[_AS_MANY_AS.get(name, name)]
            if size != wanted or not size:
                reason = f"its field {stored!r} holds {size} {kind} values, not {wanted or 'some'}"
                raise BadRecord(records.files[0], reason)
            fields.append((stored, batch_name, size))
        length = fields[0][2]
        if 0 < max_sequence_length < length:
            raise ValueError(
                f"{records.files[0]}: its texts have {length} tokens, the model takes at most "
                f"{max_sequence_length} (model.max_sequence_length)"
            )
        dynamic = None
        if not has_masks:
            dynamic = Masking(tuple(vocabulary), **(masking or {"max_predictions": 20}))
        return cls(records, tuple(fields), vocabulary_size, dynamic, cache)

    @property
    def length(self):
        """Tokens of a text, padding included."""
        return self.fields[0][2]

    @property
    def predictions(self):
        """Masked positions of a text, padding included."""
        if self.masking is not None:
            return self.masking.max_predictions
        return next(size for _, name, size in self.fields if name == "masked_positions")

    def training(self, seed, start, batch, shard=(1, 0)):
        """Opens the endless stream of batches.

        Args:
            seed: int, of the order and of the masks.
            start: int, the number of the first element, over all hosts.
            batch: int, texts of a batch.
            shard: (number of hosts, index of this one).

        Returns:
            `tf.data.Dataset` of dicts, see `parse`.
        """
        stream = ShuffledRecords(self.records, seed, shard, self.cache).elements(start)
        stream = stream.map(
            lambda number, serialized: self._with_random(serialized, seed, number),
            available_cores(),
            deterministic=True,
        )
        stream = stream.batch(batch, drop_remainder=True)
        return stream.map(self.parse, available_cores(), deterministic=True)

    def names(self, seed, start, count):
        """The records behind some elements of the stream: list of str, FILE:PLACE.

        Args:
            seed, start, count: int.
        """
        return ShuffledRecords(self.records, seed).names(start, count)

    def validation(self, begin=0, end=None):
        """Opens a range of the examples, in the order of the files.

        Examples without masks get the same masks every time.

        Args:
            begin, end: int, the first example and the one after the last; all by default.

        Returns:
            `tf.data.Dataset` of dicts, see `parse`, without the axis of the batch.
        """
        stream = self.records.in_order(begin, end).enumerate(begin)
        stream = stream.map(lambda number, serialized: self._with_random(serialized, 0, number))
        stream = stream.batch(_BATCH).map(self.parse, available_cores(), deterministic=True)
        return stream.unbatch()

    def probes(self, begin=0):
        """Dataset with an element for each record; reading that of an unusable record fails."""

        def parsed(number, serialized):
            parts = self._with_random(serialized, 0, number)
            return self.parse(*(part[tf.newaxis] for part in parts))["next_sentence_labels"]

        stream = self.records.in_order(begin).enumerate()
        return stream.map(parsed, available_cores(), deterministic=True)

    def _with_random(self, serialized, seed, number):
        """The arguments of `parse` for one example."""
        if self.masking is None:
            return (serialized,)
        key = tf.stack([tf.cast(seed, tf.int64), number])
        return serialized, tf.random.stateless_uniform((3, self.length), key)

    def parse(self, serialized, random=None):
        """Parses and checks a batch, and masks it if it has no masks.

        Args:
            serialized: `(batch,)` strings.
            random: `(batch, 3, length)` float32, see `Masking.dynamic`; None where the examples
                have masks.

        Returns:
            dict of tensors: `(batch, length)` int32 `token_ids`, `segment_ids`, `padding_mask`;
            `(batch, predictions)` `masked_positions`, `masked_ids` (int32) and `masked_weights`
            (float32); `(batch,)` int32 `next_sentence_labels`.
        """
        dtypes = {"int64": tf.int64, "float": tf.float32}
        spec = {
            stored: tf.io.FixedLenFeature((size,), dtypes[_kind(stored)])
            for stored, _, size in self.fields
        }
        features = tf.io.parse_example(serialized, spec)
        batch = {name: features[stored] for stored, name, _ in self.fields}
        batch["next_sentence_labels"] = tf.squeeze(batch["next_sentence_labels"], axis=-1)

        sizes = {
            **dict.fromkeys(("token_ids", "masked_ids"), self.vocabulary_size),
            **dict.fromkeys(("segment_ids", "padding_mask", "next_sentence_labels"), 2),
            "masked_positions": self.length,
            "masked_weights": np.inf,
        }
        checks = [
            self._in_range(stored, batch[name], sizes[name]) for stored, name, _ in self.fields
        ]
        with tf.control_dependencies(checks):  # first: larger values would wrap around in the cast
            batch = {
                name: tf.cast(value, tf.int32 if value.dtype.is_integer else tf.float32)
                for name, value in batch.items()
            }
        if self.masking is not None:
            masked = self.masking.dynamic(batch["token_ids"], batch["padding_mask"], random)
            batch |= {_NAMES[name]: value for name, value in masked.items()}
        return batch

    def _in_range(self, name, values, size):
        """Asserts `0 <= values < size`; shows the first value outside."""
        values = tf.reshape(values, [-1])
        inside = (values >= 0) & (values < size)
        shown = values[tf.argmin(tf.cast(inside, tf.int8))]
        message = f"{self.records.pattern}: a value of {name} is not in [0, {size})"
        return tf.debugging.Assert(tf.reduce_all(inside), [message, shown])


def _check_vocabulary(records, vocabulary):
    digest = vocabulary_hash(vocabulary)
    for path, manifest in records.manifests.items():
        if manifest["vocabulary_sha256"] not in (None, digest):
            raise ValueError(
                f"{path}: these texts were made with another vocabulary than data.vocabulary "
                f"(sha256 {manifest['vocabulary_sha256'][:12]}, not {digest[:12]})"
            )


def _kind(name):
    """How a field is stored."""
    return "float" if name == "masked_lm_weights" else "int64"
