"""Writes TFRecord files: Python values to `tf.train.Example`, and a stream of them to shards."""

import contextlib
import itertools
import os
import uuid

import numpy as np


def to_example(features):
    """Serializes one example.

    Args:
        features: dict of str to bytes, str, or a number or array of integers, booleans or floats.
            Arrays are flattened; integers and booleans are stored as int64, floats as float32.

    Returns:
        bytes, a serialized `tf.train.Example`. Equal features give equal bytes.

    Raises:
        TypeError: a value is of another kind.
    """
    import tensorflow as tf

    example = tf.train.Example()
    for name, value in features.items():
        feature = example.features.feature[name]
        if isinstance(value, str | bytes):
            feature.bytes_list.value.append(value.encode() if isinstance(value, str) else value)
            continue
        array = np.ravel(value)
        if array.dtype.kind in "iub":
            feature.int64_list.value.extend(array.astype(np.int64).tolist())
        elif array.dtype.kind == "f":
            feature.float_list.value.extend(array.tolist())
        else:
            raise TypeError(f"feature {name!r}: cannot store a value of {array.dtype}")
    # Protocol buffers leave the order of a map's entries open unless asked.
    return example.SerializePartialToString(deterministic=True)


def write_shards(serialized, prefix, shards):
    """Writes examples to `PREFIX-00000-of-00004` and its fellows, one to each in turn.

    The files get their names when all of them are whole: a run that is killed leaves none.

    Args:
        serialized: iterable of bytes.
        prefix: str, local or `gs://`; its folder is made.
        shards: int, how many files.

    Returns:
        int, how many examples were written.
    """
    import tensorflow as tf

    paths = [f"{prefix}-{shard:05d}-of-{shards:05d}" for shard in range(shards)]
    suffix = f".tmp-{uuid.uuid4().hex}"
    tf.io.gfile.makedirs(os.path.dirname(paths[0]) or ".")
    count = 0
    try:
        with contextlib.ExitStack() as stack:
            writers = [stack.enter_context(tf.io.TFRecordWriter(path + suffix)) for path in paths]
            for record, writer in zip(serialized, itertools.cycle(writers), strict=False):
                writer.write(record)
                count += 1
        for path in paths:
            tf.io.gfile.rename(path + suffix, path, overwrite=True)
    finally:
        for path in paths:
            if tf.io.gfile.exists(path + suffix):
                tf.io.gfile.remove(path + suffix)
    return count
