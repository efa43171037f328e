"""Reads BERT pre-training examples, with Google's field names or Model Garden's.

Examples written without masks are masked when they are read. `packed` puts the texts of a batch
into rows, one after another, so that few tokens are padding.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from pipelines.cores import available_cores
from pipelines.shards.records import RecordFiles
from pipelines.shards.streams import ShuffledRecords
from pipelines.text.masking import Masking
from pipelines.text.wordpiece import vocabulary_hash

_ALTERNATIVES = {"input_ids": "input_word_ids", "segment_ids": "input_type_ids"}  # Model Garden's
_MASKS = {  # names in the files: in a batch
    "masked_lm_positions": "masked_positions",
    "masked_lm_ids": "masked_ids",
    "masked_lm_weights": "masked_weights",
}
_NAMES = {
    "input_ids": "token_ids",
    "segment_ids": "segment_ids",
    "input_mask": "padding_mask",
    **_MASKS,
    "next_sentence_labels": "next_sentence_labels",
}
_BATCH = 64  # examples parsed together where the stream holds single ones


@dataclasses.dataclass(frozen=True)
class TextStream:
    """BERT examples in TFRecord files.

    Attributes:
        stored: the name of a field in a batch to its name in the files.
        length: tokens of a text, padding included.
        predictions: masked positions of a text, padding included.
        masking: for examples that have no masks, else None.
    """

    records: RecordFiles
    stored: dict[str, str]
    length: int
    predictions: int
    vocabulary_size: int
    masking: Masking | None = None

    @classmethod
    def open(
        cls,
        records: RecordFiles,
        vocabulary: list[str],
        vocabulary_size: int,
        max_sequence_length: int,
        masking: dict | None = None,
    ) -> "TextStream":
        """Finds field names and lengths in the first whole record.

        Args:
            vocabulary: the manifest must agree with it.
            vocabulary_size: entries of the model's vocabulary.
            max_sequence_length: the most tokens that the model takes; 0 for no limit.
            masking: `max_predictions`, `ratio` and `whole_word`, see `Masking`, for examples
                without masks.

        Raises:
            ValueError: a field is missing, the texts are too long for the model, or were made with
                another vocabulary.
        """
        digest = vocabulary_hash(vocabulary)
        for path, manifest in records.manifests.items():
            if manifest["vocabulary_sha256"] not in (None, digest):
                raise ValueError(
                    f"{path}: these texts were made with another vocabulary than data.vocabulary "
                    f"(sha256 {manifest['vocabulary_sha256'][:12]}, not {digest[:12]})"
                )
        features = records.first_example().features.feature
        is_masked = not features.keys().isdisjoint(_MASKS)
        names = {}
        for name, batch_name in _NAMES.items():
            if name in _MASKS and not is_masked:
                continue
            stored = name if name in features else _ALTERNATIVES.get(name, name)
            if stored not in features:
                raise ValueError(
                    f"{records.files[0]}: its records have no field {name!r} but {sorted(features)}"
                )
            names[batch_name] = stored
        length = len(features[names["token_ids"]].int64_list.value)
        if not length:
            raise ValueError(
                f"{records.files[0]}: its field {names['token_ids']!r} has no integers"
            )
        if 0 < max_sequence_length < length:
            raise ValueError(
                f"{records.files[0]}: its texts have {length} tokens, the model takes at most "
                f"{max_sequence_length} (model.max_sequence_length)"
            )
        if is_masked:
            predictions = len(features["masked_lm_positions"].int64_list.value)
            return cls(records, names, length, predictions, vocabulary_size)
        dynamic = Masking(tuple(vocabulary), **(masking or {"max_predictions": 20}))
        return cls(records, names, length, dynamic.max_predictions, vocabulary_size, dynamic)

    def training(
        self, seed: int, start: int, batch: int, shard: tuple[int, int] = (1, 0)
    ) -> tf.data.Dataset:
        """The endless stream of batches, see `parse`.

        Args:
            seed: of the order and of the masks.
            start: the number of the first element, over all hosts.
            shard: (number of hosts, index of this one).
        """
        stream = ShuffledRecords(self.records, seed, shard).elements(start)
        stream = stream.map(
            lambda number, serialized: self._with_random(serialized, seed, number),
            available_cores(),
            deterministic=True,
        )
        stream = stream.batch(batch, drop_remainder=True)
        return stream.map(self.parse, available_cores(), deterministic=True)

    def names(self, seed: int, start: int, count: int) -> list[str]:
        """The records behind some elements of the stream, FILE:PLACE."""
        return ShuffledRecords(self.records, seed).names(start, count)

    def validation(self, begin: int = 0, end: int | None = None) -> tf.data.Dataset:
        """Single examples in the order of the files, see `parse`; `end` is excluded.

        Examples without masks get the same masks every time.
        """
        stream = self.records.in_order(begin, end).enumerate(begin)
        stream = stream.map(lambda number, serialized: self._with_random(serialized, 0, number))
        stream = stream.batch(_BATCH).map(self.parse, available_cores(), deterministic=True)
        return stream.unbatch()

    def probes(self, begin: int = 0) -> tf.data.Dataset:
        """An element for each record; reading that of an unusable record fails."""

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

    def parse(self, serialized: tf.Tensor, random: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Parses and checks a batch, and masks it if it has no masks.

        Args:
            serialized: `(batch,)` strings.
            random: `(batch, 3, length)` float32, see `Masking.dynamic`; None where the examples
                have masks.

        Returns:
            `(batch, length)` int32 `token_ids`, `segment_ids`, `padding_mask`;
            `(batch, predictions)` `masked_positions`, `masked_ids` (int32) and `masked_weights`
            (float32); `(batch,)` int32 `next_sentence_labels`.
        """
        # Of each field: how many values it has, and what they are less than.
        fields = {
            "token_ids": (self.length, self.vocabulary_size),
            "segment_ids": (self.length, 2),
            "padding_mask": (self.length, 2),
            "masked_positions": (self.predictions, self.length),
            "masked_ids": (self.predictions, self.vocabulary_size),
            "masked_weights": (self.predictions, np.inf),
            "next_sentence_labels": (1, 2),
        }
        kinds = dict.fromkeys(fields, tf.int64) | {"masked_weights": tf.float32}
        features = tf.io.parse_example(
            serialized,
            {
                stored: tf.io.FixedLenFeature((fields[name][0],), kinds[name])
                for name, stored in self.stored.items()
            },
        )
        checks = [
            self._in_range(stored, features[stored], fields[name][1])
            for name, stored in self.stored.items()
        ]
        with tf.control_dependencies(checks):  # first: larger values would wrap around in the cast
            batch = {
                name: tf.cast(features[stored], tf.float32 if kinds[name].is_floating else tf.int32)
                for name, stored in self.stored.items()
            }
        batch["next_sentence_labels"] = tf.squeeze(batch["next_sentence_labels"], axis=-1)
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


def packed(batch: dict[str, tf.Tensor], parts: int = 1) -> dict[str, tf.Tensor]:
    """Packs the texts of a batch into rows as long as the longest text.

    Texts are placed from the longest on, each into the fullest row that has room for it. This
    best-fit-decreasing rule takes at most 11/9 of the fewest possible rows, plus four (Johnson et
    al. 1974, "Worst-case performance bounds for simple one-dimensional packing algorithms").

    Args:
        batch: see `TextStream.parse`.
        parts: into how many equal parts a step divides the batch; each is packed separately.

    Returns:
        `(rows, length)` int32 `token_ids`, `segment_ids`, `position_ids`, where
        each text begins with 0, and `padding_mask`, which holds the number of the text, from 1, and
        0 for padding; `(texts,)` int32 `text_starts`, the place of each text's first token in the
        rows of its part, counted over all of these; the other fields unchanged. `rows` is a
        multiple of `parts`.
    """
    texts, length = batch["token_ids"].shape
    real = tf.reshape(batch["padding_mask"], [parts, texts // parts, length]) > 0
    places = tf.range(length)
    sizes = tf.reduce_max(tf.where(real, places + 1, 1), -1)
    rows, offsets, needed = _best_fit(sizes, length)
    starts = rows * length + offsets
    # A part with fewer rows than another has empty ones at its end.
    shape = [parts, needed * length]
    part = tf.range(parts)[:, tf.newaxis, tf.newaxis]
    tokens = tf.stack([part + tf.zeros_like(real, tf.int32), starts[..., tf.newaxis] + places], -1)
    is_own = places < sizes[..., tf.newaxis]
    where = tf.boolean_mask(tokens, is_own)

    def spread(values):
        values = tf.reshape(values, [parts, texts // parts, length])
        found = tf.scatter_nd(where, tf.boolean_mask(values, is_own), shape)
        return tf.reshape(found, [-1, length])

    numbers = tf.range(1, texts // parts + 1)[:, tf.newaxis]
    return {
        **batch,
        **{name: spread(batch[name]) for name in ("token_ids", "segment_ids")},
        "position_ids": spread(tf.broadcast_to(places, [texts, length])),
        "padding_mask": spread(tf.where(real, numbers, 0)),
        "text_starts": tf.reshape(starts, [texts]),
    }


def _best_fit(sizes, length):
    """Assigns texts of given sizes to rows, each part separately.

    Args:
        sizes: `(parts, texts)` int32.
        length: int, of a row.

    Returns:
        `(parts, texts)` int32, the row of each text and its place there; scalar int32, the number
        of rows of the part that has the most.
    """
    parts, texts = sizes.shape
    order = tf.argsort(sizes, direction="DESCENDING", stable=True)
    in_order = tf.gather(sizes, order, batch_dims=1)

    def place(number, room, rows, offsets):
        size = in_order[:, number, tf.newaxis]
        row = tf.argmin(tf.where(room >= size, room, length + 1), -1, tf.int32)
        offset = length - tf.gather(room, row, batch_dims=1)
        room -= tf.one_hot(row, texts, dtype=tf.int32) * size
        return number + 1, room, rows.write(number, row), offsets.write(number, offset)

    arrays = [tf.TensorArray(tf.int32, texts, element_shape=(parts,)) for _ in range(2)]
    _, room, rows, offsets = tf.while_loop(
        lambda number, *_: number < texts, place, (0, tf.fill([parts, texts], length), *arrays)
    )
    back = tf.argsort(order)
    placed = [tf.gather(tf.transpose(x.stack()), back, batch_dims=1) for x in (rows, offsets)]
    return *placed, tf.reduce_max(tf.reduce_sum(tf.cast(room < length, tf.int32), -1))
