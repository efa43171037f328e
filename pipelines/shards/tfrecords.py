"""Writes TFRecord files: Python values to `tf.train.Example`, and these to shards."""

import contextlib
import itertools
import os

import numpy as np
import tensorflow as tf

from pipelines.shards import shard_files
from pipelines.shards.shard_manifest import IMAGES, write_manifest


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
    example = tf.train.Example()
    for name, value in features.items():
        feature = example.features.feature[name]
        if isinstance(value, str | bytes):
            feature.bytes_list.value.append(value.encode() if isinstance(value, str) else value)
            continue
        array = np.ravel(value)
        if array.dtype.kind in "iub":
            feature.int64_list.value.extend(array.astype(np.int64).tolist())
        else:
            feature.float_list.value.extend(array.tolist())
    # Without this the order of a map's entries would be undefined.
    return example.SerializePartialToString(deterministic=True)


def write_shards(serialized, prefix, shards, kind=IMAGES, settings=None, **manifest):
    """Writes examples to the files `PREFIX-00000-of-00004` and so on, one to each in turn.

    The files get their names when all of them are whole, and the manifest comes last: a killed run
    leaves nothing that looks finished.

    Args:
        serialized: iterable of bytes.
        prefix: str, local or `gs://`; its folder is made.
        shards: int, how many files.
        kind, settings, **manifest: what the manifest says, see `shard_manifest.write_manifest`.

    Returns:
        int, how many examples were written.
    """
    paths = [shard_files.shard_path(prefix, shard, shards) for shard in range(shards)]
    tf.io.gfile.makedirs(os.path.dirname(paths[0]) or ".")
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(shard_files.RecordFile(path)) for path in paths]
        for record, file in zip(serialized, itertools.cycle(files), strict=False):
            file.write(record)
    entries = [file.entry for file in files]
    write_manifest(prefix, kind, entries, settings or {}, **manifest)
    return sum(entry["records"] for entry in entries)
