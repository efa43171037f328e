"""Reads BERT pre-training examples, with Google's field names or Model Garden's."""

import dataclasses

from keras_vitbert.command_line import UserError
from pipelines.records import RecordFiles

_ALTERNATIVES = {"input_ids": "input_word_ids", "segment_ids": "input_type_ids"}
_NAMES = {  # in the files: in a batch
    "input_ids": "token_ids",
    "segment_ids": "segment_ids",
    "input_mask": "padding_mask",
    "masked_lm_positions": "masked_positions",
    "masked_lm_ids": "masked_ids",
    "masked_lm_weights": "masked_weights",
    "next_sentence_labels": "next_sentence_labels",
}


@dataclasses.dataclass(frozen=True)
class TextRecords:
    """BERT examples in TFRecord files.

    Attributes:
        records: `RecordFiles`.
        fields: tuple of (name in the files, name in a batch, number of values).
        vocabulary_size: int.
    """

    records: RecordFiles
    fields: tuple
    vocabulary_size: int

    @classmethod
    def open(cls, records, vocabulary_size, max_sequence_length):
        """Finds field names and lengths in the first record.

        Raises:
            UserError: a field is missing, or the texts are longer than the model.
        """
        features = records.first_example().features.feature
        fields = []
        for name, batch_name in _NAMES.items():
            stored = name if name in features else _ALTERNATIVES.get(name, name)
            if stored not in features:
                raise UserError(
                    f"{records.files[0]}: its records have no field {name!r} but "
                    f"{sorted(features)}; give TFRecords of BERT examples"
                )
            kind = _kind(name)
            size = len(getattr(features[stored], f"{kind}_list").value)
            if not size:
                raise UserError(
                    f"{records.files[0]}: its field {stored!r} holds no {kind} values; give "
                    "TFRecords of BERT examples"
                )
            fields.append((stored, batch_name, size))
        length = fields[0][2]
        if length > max_sequence_length:
            raise UserError(
                f"{records.files[0]}: its texts have {length} tokens, the model takes at most "
                f"{max_sequence_length}; set --config.model.max_sequence_length={length}"
            )
        return cls(records, tuple(fields), vocabulary_size)

    @property
    def length(self):
        """Tokens a text, padding included."""
        return self.fields[0][2]

    def training(self, seed, start, shard=(1, 0)):
        """Endless dataset of serialized examples, see `parse`.

        Args:
            seed: int.
            start: int, the number of the first element.
            shard: (number of shards, index), to take every n-th element only.
        """
        stream = self.records.endless(seed, start).shard(*shard)
        return stream.map(lambda number, serialized: serialized)

    def validation(self, shard=(1, 0)):
        """Dataset of serialized examples, each once, in the order of the files."""
        return self.records.in_order().shard(*shard)

    def examples(self):
        """Dataset of every record once, parsed, in the order of the files: to find a bad one."""
        return self.records.in_order().batch(1).map(self.parse)

    def parse(self, serialized):
        """A batch of serialized examples as a dict of tensors by the names of a batch."""
        import tensorflow as tf

        dtypes = {"int64": tf.int64, "float": tf.float32}
        spec = {
            stored: tf.io.FixedLenFeature((size,), dtypes[_kind(stored)])
            for stored, _, size in self.fields
        }
        features = tf.io.parse_example(serialized, spec)
        batch = {}
        for stored, name, _ in self.fields:
            value = features[stored]
            batch[name] = tf.cast(value, tf.int32) if value.dtype == tf.int64 else value
        batch["next_sentence_labels"] = tf.squeeze(batch["next_sentence_labels"], axis=-1)

        vocabulary = f"a token id is outside the vocabulary of {self.vocabulary_size} entries"
        checks = [
            self._in_range(batch["token_ids"], self.vocabulary_size, vocabulary),
            self._in_range(batch["masked_ids"], self.vocabulary_size, vocabulary),
            self._in_range(
                batch["masked_positions"],
                self.length,
                f"a masked position is outside the text of {self.length} tokens",
            ),
            self._in_range(
                batch["next_sentence_labels"], 2, "a next-sentence label is neither 0 nor 1"
            ),
        ]
        with tf.control_dependencies(checks):
            return tf.nest.map_structure(tf.identity, batch)

    def _in_range(self, values, size, message):
        """Asserts `0 <= values < size`; shows the one that is farthest out."""
        import tensorflow as tf

        least, largest = tf.reduce_min(values), tf.reduce_max(values)
        shown = tf.where(least < 0, least, largest)
        in_range = (shown >= 0) & (shown < size)
        return tf.debugging.Assert(in_range, [f"{self.records.pattern}: {message}", shown])


def _kind(name):
    """How a field is stored."""
    return "float" if name == "masked_lm_weights" else "int64"
