"""TFRecord files as one endless stream whose every element is known by its number."""

import dataclasses
import struct

from keras_vitbert.command_line import UserError

# A record is its length (8 bytes), the length's CRC (4), the payload, and the payload's CRC (4).
_HEADER = struct.Struct("<Q")


@dataclasses.dataclass(frozen=True)
class RecordFiles:
    """Files of TFRecords.

    Attributes:
        pattern: str, the glob pattern they were found by, for messages.
        files: tuple of str, in sorted order.
        count: int, records in all of them.
    """

    pattern: str
    files: tuple
    count: int

    @classmethod
    def find(cls, pattern, flag):
        """Finds and counts the records that match a pattern.

        Args:
            pattern: str, glob pattern, local or `gs://`.
            flag: str, the flag that holds it, for messages.

        Raises:
            UserError: nothing matches, a file is cut short, or there is no record at all.
        """
        import tensorflow as tf

        if not pattern:
            raise UserError(f"--{flag} is empty; give a pattern of TFRecord files")
        try:
            files = tuple(sorted(tf.io.gfile.glob(pattern)))
        except tf.errors.NotFoundError:
            files = ()
        if not files:
            raise UserError(f"no file matches {pattern}; mend --{flag}")
        count = sum(count_records(file) for file in files)
        if not count:
            raise UserError(f"{pattern} holds no records; write the files again or mend --{flag}")
        return cls(pattern, files, count)

    def first_example(self):
        """The first record as a `tf.train.Example`.

        Raises:
            UserError: it cannot be read or is no such message.
        """
        import tensorflow as tf

        for file in self.files:
            try:
                for record in tf.data.TFRecordDataset(file).take(1):
                    return tf.train.Example.FromString(record.numpy())
            except Exception as error:
                raise UserError(f"{file}: the first record is damaged ({error})") from error
        raise AssertionError("unreachable: there is at least one record")

    def in_order(self):
        """Dataset of the serialized records, file after file."""
        import tensorflow as tf

        return tf.data.TFRecordDataset(list(self.files))

    def locate(self, number):
        """The place of a record of `in_order`: its file and its number there, from 0."""
        for file in self.files:
            count = count_records(file)
            if number < count:
                return file, number
            number -= count
        raise IndexError(number)

    def endless(self, seed, start=0, shuffle_buffer=10_000):
        """Dataset of `(number, serialized)` without end, shuffled anew every epoch.

        The order within an epoch depends on `(seed, epoch)` alone, so the stream can begin at any
        number and be equal to one that was read from 0: it skips the rest within one epoch,
        without decoding.

        Args:
            seed: int.
            start: int, the number of the first element.
            shuffle_buffer: int, records in memory; the order of files is shuffled as well.
        """
        import tensorflow as tf

        first_epoch, offset = divmod(start, self.count)
        files = list(self.files)

        def epoch_stream(epoch):
            order = tf.random.experimental.stateless_shuffle(files, tf.stack([seed, epoch]))
            stream = tf.data.Dataset.from_tensor_slices(order).interleave(
                tf.data.TFRecordDataset,
                cycle_length=min(len(files), 16),
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
            stream = _shuffled(stream, shuffle_buffer, seed, epoch)
            return stream.skip(tf.where(epoch == first_epoch, tf.cast(offset, tf.int64), 0))

        epochs = tf.data.Dataset.range(first_epoch, 2**62)
        return epochs.flat_map(epoch_stream).enumerate(start)


def _shuffled(stream, buffer_size, seed, epoch):
    """`stream.shuffle` by an order that depends on `(seed, epoch)` alone.

    `Dataset.shuffle` mixes in TensorFlow's global seed, and takes no tensor as seed where that is
    set; the operation beneath it does.
    """
    import tensorflow as tf

    numbers = tf.random.stateless_uniform((2,), [seed, epoch], 1, 2**62, dtype=tf.int64)
    variant = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(stream),
        buffer_size=tf.constant(buffer_size, tf.int64),
        seed=numbers[0],
        seed2=numbers[1],
        reshuffle_each_iteration=False,
        output_types=[tf.string],
        output_shapes=[()],
    )
    return tf.data.experimental.from_variant(variant, stream.element_spec)


def count_records(file):
    """The number of records in a TFRecord file, by their headers alone.

    Raises:
        UserError: the file ends inside a record.
    """
    import tensorflow as tf

    count = position = 0
    with tf.io.gfile.GFile(file, "rb") as stream:
        size = stream.size()
        while position < size:
            header = stream.read(_HEADER.size)
            if len(header) == _HEADER.size:
                position += _HEADER.size + 4 + _HEADER.unpack(header)[0] + 4
            if len(header) < _HEADER.size or position > size:
                raise UserError(
                    f"{file} is cut short or no TFRecord file (in record {count}); write it again"
                )
            stream.seek(position)
            count += 1
    return count
