"""Reads BERT pre-training examples, with Google's field names or Model Garden's.

Examples written without masks are masked when they are read. `packed` puts the texts of a batch
into rows, one after another, so that few tokens are padding.
"""

import dataclasses
from typing import Any

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
    """BERT examples in TFRecord files."""

    records: RecordFiles
    stored: dict[str, str]  # the name of a field in a batch to its name in the files
    length: int  # tokens of a text, padding included
    predictions: int  # masked positions of a text, padding included
    vocabulary_size: int
    masking: Masking | None = None  # for examples that have no masks

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
            vocabulary_size: entries of the model's vocabulary.
            max_sequence_length: the most tokens that the model takes; 0 for no limit.
            masking: arguments of `Masking` for examples without masks.
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
        if 0 < max_sequence_length < length:
            raise ValueError(
                f"{records.files[0]}: its texts have {length} tokens, the model takes at most "
                f"{max_sequence_length} (model.max_sequence_length)"
            )
        if is_masked:
            predictions = len(features["masked_lm_positions"].int64_list.value)
            return cls(records, names, length, predictions, vocabulary_size)
        dynamic = Masking(tuple(vocabulary), **(masking or {"max_predictions": 20}))
        # No text of this length has more, and the model computes logits for padding too.
        most = min(dynamic.max_predictions, max(1, round(dynamic.ratio * length)))
        dynamic = dataclasses.replace(dynamic, max_predictions=most)
        return cls(records, names, length, dynamic.max_predictions, vocabulary_size, dynamic)

    def training(
        self, seed: int, start: int, batch: int, shard: tuple[int, int] = (1, 0)
    ) -> tf.data.Dataset:
        """The endless stream of batches, see `parse`.

        `seed` is that of the order and of the masks, `start` the number of the first element over
        all hosts, `shard` (number of hosts, index of this one).
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

        def parsed(number: tf.Tensor, serialized: tf.Tensor) -> tf.Tensor:
            arguments = self._with_random(serialized, 0, number)
            return self.parse(*(one[tf.newaxis] for one in arguments))["next_sentence_labels"]

        stream = self.records.in_order(begin).enumerate()
        return stream.map(parsed, available_cores(), deterministic=True)

    def _with_random(
        self, serialized: tf.Tensor, seed: int, number: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """The arguments of `parse` for one example."""
        if self.masking is None:
            return (serialized,)
        key = tf.stack([tf.cast(seed, tf.int64), number])
        return serialized, tf.random.stateless_uniform((3, self.length), key)

    def parse(self, serialized: tf.Tensor, random: Any = None) -> dict[str, tf.Tensor]:
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
        features: Any = tf.io.parse_example(
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
            batch: dict[str, Any] = {
                name: tf.cast(features[stored], tf.float32 if kinds[name].is_floating else tf.int32)
                for name, stored in self.stored.items()
            }
        batch["next_sentence_labels"] = tf.squeeze(batch["next_sentence_labels"], axis=-1)
        if self.masking is not None:
            masked = self.masking.dynamic(batch["token_ids"], batch["padding_mask"], random)
            batch |= {_NAMES[name]: value for name, value in masked.items()}
        return batch

    def _in_range(self, name: str, values: tf.Tensor, size: float) -> tf.Operation:
        """Asserts `0 <= values < size`; shows the first value outside."""
        values = tf.reshape(values, [-1])
        inside = (values >= 0) & (values < size)
        shown = values[tf.argmin(tf.cast(inside, tf.int8))]
        message = f"{self.records.pattern}: a value of {name} is not in [0, {size})"
        return tf.debugging.Assert(tf.reduce_all(inside), [message, shown])


def packed(batch: dict[str, tf.Tensor], micro_batches: int = 1) -> dict[str, tf.Tensor]:
    """Packs the texts of a batch into rows as long as the longest text.

    Texts are placed from the longest on, each into the fullest row that has room for it. This
    best-fit-decreasing rule takes at most 11/9 of the fewest possible rows, plus four (Johnson et
    al. 1974, "Worst-case performance bounds for simple one-dimensional packing algorithms").

    Args:
        batch: see `TextStream.parse`.
        micro_batches: into how many equal ones a step divides the batch; each is packed separately.

    Returns:
        `(rows, length)` int32 `token_ids`, `segment_ids`, `position_ids`, where each text begins
        with 0, and `padding_mask`, which holds the number of the text, from 1, and 0 for padding;
        `(texts,)` int32 `text_starts`, the place of each text's first token in the rows of its
        micro-batch, counted over all of these; the other fields unchanged. `rows` is a multiple of
        `micro_batches`.
    """
    shape: Any = batch["token_ids"].shape
    texts, length = shape
    each = [micro_batches, texts // micro_batches, length]
    real = tf.reshape(batch["padding_mask"], each) > 0
    places = tf.range(length)
    sizes = tf.reduce_max(tf.where(real, places + 1, 1), -1)
    rows, offsets, needed = _best_fit(sizes, length)
    starts = rows * length + offsets
    # A micro-batch with fewer rows than another has empty ones at its end.
    own = tf.range(micro_batches)[:, tf.newaxis, tf.newaxis]
    tokens = tf.stack(
        [own + tf.zeros_like(real, tf.int32), tf.expand_dims(starts, -1) + places], -1
    )
    is_own = places < tf.expand_dims(sizes, -1)
    where = tf.boolean_mask(tokens, is_own)

    def spread(values: tf.Tensor) -> tf.Tensor:
        values = tf.boolean_mask(tf.reshape(values, each), is_own)
        return tf.reshape(
            tf.scatter_nd(where, values, [micro_batches, needed * length]), [-1, length]
        )

    numbers = tf.range(1, texts // micro_batches + 1)[:, tf.newaxis]
    return {
        **batch,
        **{name: spread(batch[name]) for name in ("token_ids", "segment_ids")},
        "position_ids": spread(tf.broadcast_to(places, [texts, length])),
        "padding_mask": spread(tf.where(real, numbers, 0)),
        "text_starts": tf.reshape(starts, [texts]),
    }


def _best_fit(sizes: tf.Tensor, length: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Assigns texts to rows of some length, each micro-batch separately.

    Args:
        sizes: `(micro_batches, texts)` int32.

    Returns:
        `(micro_batches, texts)` int32, the row of each text and its place there; scalar int32, the
        number of rows of the micro-batch that has the most.
    """
    shape: Any = sizes.shape
    micro_batches, texts = shape
    order = tf.argsort(sizes, direction="DESCENDING", stable=True)
    in_order = tf.gather(sizes, order, batch_dims=1)

    def place(
        number: tf.Tensor, room: tf.Tensor, rows: tf.TensorArray, offsets: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray, tf.TensorArray]:
        size = in_order[:, number, tf.newaxis]
        row = tf.argmin(tf.where(room >= size, room, length + 1), -1, tf.int32)
        offset = length - tf.gather(room, row, batch_dims=1)
        room -= tf.one_hot(row, texts, dtype=tf.int32) * size
        return number + 1, room, rows.write(number, row), offsets.write(number, offset)

    arrays = [tf.TensorArray(tf.int32, texts, element_shape=(micro_batches,)) for _ in range(2)]
    _, room, rows, offsets = tf.while_loop(
        lambda number, *_: number < texts,
        place,
        (0, tf.fill([micro_batches, texts], length), *arrays),
    )
    back = tf.argsort(order)
    row, offset = (tf.gather(tf.transpose(x.stack()), back, batch_dims=1) for x in (rows, offsets))
    return row, offset, tf.reduce_max(tf.reduce_sum(tf.cast(room < length, tf.int32), -1))
