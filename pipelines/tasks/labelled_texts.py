"""Sentences and sentence pairs as token ids, in batches padded to the bucket of the longest."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from pipelines.cores import available_cores
from pipelines.shards.streams import Context, host_stream, shard, share
from pipelines.tasks.labelled_rows import LabelledRows
from pipelines.text.wordpiece import PAD

POOL = 64  # batches that are sorted by length together
_TEXTS_PER_CALL = 8_192


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledTexts:
    """Tokenized texts `[CLS] A [SEP]` or `[CLS] A [SEP] B [SEP]`, and their labels."""

    tokens: np.ndarray  # int32, the ids of all texts, one after another
    starts: np.ndarray  # int64 `(count + 1,)`, where each text begins in `tokens`; last, their end
    first_lengths: np.ndarray  # int32, tokens of segment A with its two special tokens
    labels: np.ndarray  # int32
    pad: int  # the id of padding
    bucket_boundaries: tuple[int, ...]  # the lengths that a batch may be padded to, ascending
    rows: LabelledRows | None = None  # the texts themselves, if they are known

    @classmethod
    def encode(
        cls,
        first: Sequence[str],
        second: Sequence[str] | None,
        labels: Sequence[int] | np.ndarray,
        vocabulary: list[str],
        bucket_boundaries: Sequence[int],
        lower_case: bool = True,
    ) -> "LabelledTexts":
        """Tokenizes texts with WordPiece and truncates them to the longest bucket.

        The longer text of a pair loses tokens from its end, one by one, as in BERT.
        """
        from pipelines.text.tokenization import TextEncoder  # slow to load; images need none

        encoder = TextEncoder(vocabulary, bucket_boundaries[-1], lower_case)
        tokens, lengths, first_lengths = [], [], []
        for begin in range(0, len(first), _TEXTS_PER_CALL):
            part = slice(begin, begin + _TEXTS_PER_CALL)
            texts = encoder(
                tf.constant(first[part]), None if second is None else tf.constant(second[part])
            )
            ids, segments, mask = (
                texts[name].numpy() for name in ("token_ids", "segment_ids", "padding_mask")
            )
            tokens.append(ids[mask > 0])
            lengths.append(mask.sum(axis=1))
            first_lengths.append((mask - segments).sum(axis=1))
        return cls(
            np.concatenate(tokens),
            np.cumsum(np.concatenate([[0], *lengths])),
            np.concatenate(first_lengths).astype(np.int32),
            np.asarray(labels, np.int32),
            vocabulary.index(PAD),
            tuple(bucket_boundaries),
        )

    @property
    def count(self) -> int:
        return len(self.labels)

    @functools.cached_property
    def sha256(self) -> str:
        """Of all tokens, lengths and labels."""
        digest = hashlib.sha256()
        for array in (self.tokens, self.starts, self.first_lengths, self.labels):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each text."""
        return np.diff(self.starts)

    def part(self, indices: np.ndarray) -> "LabelledTexts":
        """Some of the texts, in the order of `indices`."""
        spans = [slice(self.starts[i], self.starts[i + 1]) for i in indices]
        return dataclasses.replace(
            self,
            tokens=np.concatenate([self.tokens[span] for span in spans]),
            starts=np.concatenate([[0], np.cumsum(self.lengths[indices])]).astype(np.int64),
            first_lengths=self.first_lengths[indices],
            labels=self.labels[indices],
            rows=self.rows and self.rows.part(indices),
        )

    def class_counts(self, classes: int) -> np.ndarray:
        """How many texts of each class there are."""
        return np.bincount(self.labels, minlength=classes)

    def descriptions(self) -> Iterator[dict[str, str]]:
        """What identifies each text."""
        return iter(({},) * self.count) if self.rows is None else self.rows.descriptions()

    def training_plan(self, seed: int, steps: int, batch: int) -> np.ndarray:
        """Which texts the steps of a run take: int32 `(steps, batch)` of indices.

        Every text comes once per epoch, in random order; epochs follow each other without a gap.
        The texts of `POOL` batches at a time are sorted by length and divided into batches again,
        so that the texts of a batch are about equally long. These batches come in random order.
        """
        epochs = -(-steps * batch // self.count)
        order = np.concatenate(
            [
                np.random.default_rng((seed, epoch)).permutation(self.count)
                for epoch in range(epochs)
            ]
        )[: steps * batch]
        plan = np.empty((steps, batch), np.int32)
        for begin in range(0, steps, POOL):
            pool = order[begin * batch : min(begin + POOL, steps) * batch]
            pool = pool[np.argsort(self.lengths[pool], kind="stable")].reshape(-1, batch)
            mixed = np.random.default_rng((seed, begin, 1)).permutation(len(pool))
            plan[begin : begin + POOL] = pool[mixed]
        return plan

    def evaluation_plan(self, batch: int) -> np.ndarray:
        """Every text once, sorted by length: int32 `(steps, batch)`, filled with -1 at the end."""
        order = np.argsort(self.lengths, kind="stable").astype(np.int32)
        filling = np.full(-self.count % batch, -1, np.int32)
        return np.concatenate([order, filling]).reshape(-1, batch)

    def batch_lengths(self, plan: np.ndarray) -> np.ndarray:
        """The lengths that the batches of a plan are padded to: int32 `(steps,)`."""
        longest = np.append(self.lengths, 0)[plan].max(axis=1)
        return np.array(self.bucket_boundaries, np.int32)[
            np.searchsorted(self.bucket_boundaries, longest)
        ]

    def evaluation(self, batch: int, context: Context = None) -> tf.data.Dataset:
        """Each text once, or a host's share of them, as from `batches`."""
        return self.batches(self.evaluation_plan(batch), context=context)

    def training(
        self, plan: np.ndarray, first_step: int = 0, context: Context = None
    ) -> tf.data.Dataset:
        """The batches of a plan for training: their inputs, and their labels as `text_labels`."""

        def renamed(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            inputs = {name: batch[name] for name in ("token_ids", "segment_ids", "padding_mask")}
            return {**inputs, "text_labels": batch["labels"]}

        return self.batches(plan, first_step, context).map(renamed)

    def batches(
        self, plan: np.ndarray, first_step: int = 0, context: Context = None
    ) -> tf.data.Dataset:
        """The batches of a plan, `(steps, batch)` indices, or a host's share, every H-th text.

        Dicts of int32 `token_ids`, `segment_ids` and `padding_mask` `(share, length)`, `labels` and
        `numbers` (the indices; -1 is an empty place) `(share,)`, and float32 `weights`, 0 for an
        empty place. The length is that of the whole batch's bucket, on every replica.
        """
        hosts, host = shard(context)
        size = share(plan.shape[1], context)
        shares = plan.shape[1] // size // hosts  # of this host, in each step
        bucket = self.batch_lengths(plan)
        indices, bucket = tf.constant(plan, tf.int32), tf.constant(bucket)
        tokens, labels = tf.constant(self.tokens), tf.constant(self.labels)
        starts, ends = tf.constant(self.starts[:-1]), tf.constant(self.starts[1:])
        firsts = tf.constant(self.first_lengths)

        def share_of(place: tf.Tensor) -> dict[str, tf.Tensor]:
            step, own = place // shares, place % shares
            of_host = indices[step, host::hosts]
            numbers = tf.ensure_shape(of_host[own * size : (own + 1) * size], (size,))
            there = numbers >= 0
            known = tf.maximum(numbers, 0)
            start, end = tf.gather(starts, known), tf.gather(ends, known)
            columns = tf.range(bucket[step])[None]
            lengths = tf.where(there, tf.cast(end - start, tf.int32), 0)
            mask = columns < lengths[:, None]
            places = tf.minimum(start[:, None] + tf.cast(columns, tf.int64), len(self.tokens) - 1)
            ids = tf.where(mask, tf.gather(tokens, places), self.pad)
            second = mask & (columns >= tf.gather(firsts, known)[:, None])
            result = {
                "token_ids": ids,
                "segment_ids": tf.cast(second, tf.int32),
                "padding_mask": tf.cast(mask, tf.int32),
            }
            if len(self.bucket_boundaries) == 1:  # TPUs need a static shape
                result = {
                    name: tf.ensure_shape(value, (size, self.bucket_boundaries[0]))
                    for name, value in result.items()
                }
            return {
                **result,
                "labels": tf.where(there, tf.gather(labels, known), 0),
                "numbers": numbers,
                "weights": tf.cast(there, tf.float32),
            }

        places = tf.data.Dataset.range(first_step * shares, plan.shape[0] * shares)
        return host_stream(places.map(share_of, available_cores(), deterministic=True))
