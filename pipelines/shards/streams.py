"""The endless shuffled order of a set of records, read by any number of hosts.

The set is cut into blocks of `S` neighbouring records, about a MiB: large enough to be read
quickly, small enough that many fit in memory. Blocks are dealt to `L` lanes, block `k` to lane
`k mod L`. A window is one block from each lane, each with its records shuffled. It yields `S` rows
of one record per lane. In an epoch, every lane goes through its blocks once, in random order. The
few records that do not fill a window come last, so a set smaller than a window, some 200 MB, is
shuffled as a whole. The order of an epoch depends on (seed, epoch) alone, and entering the stream
anywhere costs reading one window.

Element `n` of the stream, counted over all epochs, comes from lane `n mod L`, and host `h` of `H`
takes the elements `n = h (mod H)`, so the content of the stream does not depend on the number of
hosts. If `H` divides `L`, a host reads `L / H` lanes, the same share of the files in every epoch.
Besides these it reads only the last records of an epoch. With other numbers of hosts, a host also
reads records that it skips.

How the hosts and replicas of a run share a stream follows from their `tf.distribute.InputContext`,
or None where one replica takes everything.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.command_line import say
from pipelines.cores import available_cores
from pipelines.shards.records import RecordFiles

LANES = 192  # 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96 and 192 hosts share them evenly
BLOCK_BYTES = 1 << 20
_READERS = 16  # the fewest blocks that are read at once: remote storage answers slowly
MIN_BLOCK = 8  # records: fewer would always come in the same window together


Context = tf.distribute.InputContext | None
index_shuffle: Any = tf.random.experimental.index_shuffle  # pyright: ignore[reportAttributeAccessIssue]


class ShuffledRecords:
    """The elements of one host; `shard` is the number of hosts and the index of this one."""

    def __init__(self, records: RecordFiles, seed: int, shard: tuple[int, int] = (1, 0)) -> None:
        self._records, self._count, self._seed = records, records.count, seed
        self._hosts, self._host = shard
        self._step = math.gcd(self._hosts, LANES)  # from one lane of this host to its next
        self._row = LANES // self._step  # elements of a row that this host reads
        self._block = max(BLOCK_BYTES * records.count // records.bytes, MIN_BLOCK)
        self._windows = records.count // (LANES * self._block)  # in an epoch
        self._read = records.reader
        if records.in_memory:
            if shard not in records.memory:
                records.memory[shard] = self._loaded(records)
            self._read = self._memory_reader(records.memory[shard])

    def elements(self, start: int = 0) -> tf.data.Dataset:
        """The host's share of the endless stream: (number of the element, serialized record).

        The first is element `start`, counted over all hosts and epochs.
        """
        first_epoch, offset = divmod(start, self._count)
        first_window = min(offset // (LANES * self._block), self._windows)
        offset -= first_window * LANES * self._block
        # Whole rows of the first window are skipped in each lane, the rest one by one.
        rows = offset // LANES if first_window < self._windows else 0
        passed = rows * LANES if first_window < self._windows else offset

        def epoch_stream(epoch: tf.Tensor) -> tf.data.Dataset:
            is_first = epoch == first_epoch

            def window_stream(window: tf.Tensor) -> tf.data.Dataset:
                enters = is_first & (window == first_window)
                return self._window(epoch, window, tf.where(enters, np.int64(rows), 0))

            begin = tf.where(is_first, np.int64(first_window), 0)
            windows = tf.data.Dataset.range(begin, self._windows)
            enters_last = is_first & (first_window == self._windows)
            last = self._last_records(epoch, tf.where(enters_last, np.int64(passed), 0))
            return windows.flat_map(window_stream).concatenate(last)

        stream = tf.data.Dataset.range(first_epoch, 2**62).flat_map(epoch_stream)
        if self._hosts > 1:
            stream = stream.filter(  # pyright: ignore[reportCallIssue]
                lambda number, _: number % self._hosts == self._host  # pyright: ignore[reportArgumentType]
            )
        entered = start - offset + passed
        first = entered + (self._host - entered) % self._hosts
        stream = stream.skip(len(range(first, start, self._hosts)))
        # While a window is used, the next one is read.
        return stream.prefetch(min(self._row * self._block, self._count))

    def names(self, start: int, count: int) -> list[str]:
        """The file and the place in it of the records behind some elements, without reading them.

        Each such as `train-00000-of-00004:17`; `start` is counted as in `elements`.
        """
        order = copy.copy(self)
        order._read = lambda begin, count: tf.data.Dataset.range(begin, begin + count)
        places = order.elements(start).take(count).as_numpy_iterator()
        return ["{}:{}".format(*self._records.locate(int(place))) for _, place in places]

    def _window(self, epoch: tf.Tensor, window: tf.Tensor, rows: tf.Tensor) -> tf.data.Dataset:
        """One block of each lane of this host, row by row, without the first `rows`."""
        begin = epoch * self._count + window * LANES * self._block  # number of the first element
        # The first place in a row that belongs to this host.
        first_column = tf.math.floormod(self._host - epoch * self._count, self._step)

        def block(column: tf.Tensor) -> tf.data.Dataset:
            lane = tf.math.floormod(begin + column, LANES)
            key = _key(self._seed, epoch, lane)
            place = index_shuffle(window, key, self._windows - 1)
            records = self._read((place * LANES + lane) * self._block, self._block)
            return _shuffled(records, self._block, key + window).skip(rows)

        elements = tf.data.Dataset.range(first_column, LANES, self._step).interleave(
            block,
            cycle_length=self._row,
            num_parallel_calls=min(max(available_cores(), _READERS), self._row),
            deterministic=True,
        )

        def numbers_of_row(row: tf.Tensor) -> tf.data.Dataset:
            row = begin + row * LANES
            return tf.data.Dataset.range(row + first_column, row + LANES, self._step)

        numbers = tf.data.Dataset.range(rows, self._block).flat_map(numbers_of_row)
        return tf.data.Dataset.zip(numbers, elements)

    def _last_records(self, epoch: tf.Tensor, passed: tf.Tensor) -> tf.data.Dataset:
        """The records that fill no window, for every host, without the first `passed`."""
        begin = self._windows * LANES * self._block
        count = self._count - begin
        records = _shuffled(self._read(begin, count), count, _key(self._seed, epoch, LANES))
        return records.skip(passed).enumerate(epoch * self._count + begin + passed)

    def _loaded(self, records: RecordFiles) -> tf.Tensor:
        """The records of this host's blocks, and those that fill no window, as one tensor."""
        block, blocks = self._block, self._windows * LANES
        count = blocks // self._step * block + self._count - blocks * block
        say(f"{records.pattern}: {records.bytes * count / self._count / 1e9:.1f} GB go into memory")
        own = tf.data.Dataset.range(self._host % self._step, blocks, self._step)
        stream = own.flat_map(lambda index: records.reader(index * block, block))
        stream = stream.concatenate(records.reader(blocks * block, self._count - blocks * block))
        return stream.batch(count).get_single_element()

    def _memory_reader(self, memory: tf.Tensor) -> Callable[[Any, Any], tf.data.Dataset]:
        """Like `RecordFiles.reader`, for one block or for what follows the last block."""
        block, blocks = self._block, self._windows * LANES

        def read(begin: Any, count: Any) -> tf.data.Dataset:
            own = tf.minimum(tf.cast(begin, tf.int64) // block, blocks) // self._step * block
            return tf.data.Dataset.from_tensor_slices(memory[own : own + count])

        return read


def _key(seed: int, epoch: tf.Tensor, lane: Any) -> tf.Tensor:
    """Two independent random numbers for a lane of an epoch."""
    numbers = tf.stack([tf.cast(seed, tf.int64), epoch * (LANES + 1) + lane])
    return tf.random.stateless_uniform((2,), numbers, 1, 2**61, dtype=tf.int64)


def _shuffled(stream: tf.data.Dataset, buffer_size: int, key: tf.Tensor) -> tf.data.Dataset:
    """`stream.shuffle` with a seed that may be a tensor.

    `Dataset.shuffle` mixes in TensorFlow's global seed, and takes no tensor as seed if that is
    set; the operation beneath it does.
    """
    spec: Any = stream.element_spec
    variant = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(stream),
        buffer_size=tf.constant(max(buffer_size, 1), tf.int64),
        seed=key[0],
        seed2=key[1],
        reshuffle_each_iteration=False,
        output_types=[spec.dtype],
        output_shapes=[()],
    )
    return tf.data.experimental.from_variant(variant, spec)


def shard(context: Context) -> tuple[int, int]:
    """The share of a source that a host reads: (number of hosts, index of this one)."""
    return (1, 0) if context is None else (context.num_input_pipelines, context.input_pipeline_id)


def share(global_batch: int, context: Context) -> int:
    """The size of one replica's batch, of `global_batch` examples over all replicas."""
    return global_batch if context is None else context.get_per_replica_batch_size(global_batch)


def one_pass(
    read: Callable[[int, int], tf.data.Dataset],
    count: int,
    batch: int,
    steps: int,
    weight_name: str,
    context: Context,
    **empties: Any,
) -> tf.data.Dataset:
    """A host's share of batches that hold every example once, padded with empty examples.

    Args:
        read: function of (begin, end) that returns those of the `count` examples, dicts.
        batch: examples per step over all replicas.
        steps: how many batches there are, over all hosts.
        weight_name: the field for an example's weight: 1.0, or 0.0 if it is empty.
        **empties: values that an empty example has instead of zeros.
    """
    hosts, host = shard(context)
    size = steps * batch // hosts
    begin, end = (min(place * size, count) for place in (host, host + 1))
    stream = read(begin, end)
    specs: Any = stream.element_spec
    empty = {name: tf.zeros(spec.shape, spec.dtype) for name, spec in specs.items()}
    for name, value in empties.items():
        empty[name] = tf.cast(value, empty[name].dtype)
    filling = tf.data.Dataset.from_tensors({**empty, weight_name: 0.0}).repeat()
    stream = stream.map(lambda example: {**example, weight_name: 1.0}).concatenate(filling)
    return stream.take(size).batch(share(batch, context), drop_remainder=True)


def host_stream(stream: tf.data.Dataset) -> tf.data.Dataset:
    """Marks a host's own stream as divided among hosts: TensorFlow must not divide it again."""
    options = tf.data.Options()
    options.deterministic = True
    # Its thread looks for better settings at intervals of up to a minute, and ending the stream may
    # have to wait for the next one. Maps use all cores without it.
    options.autotune.enabled = False
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return stream.with_options(options).prefetch(2)
