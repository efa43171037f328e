"""Files of a sharded data set: written under temporary names, and described for the manifest.

A data set is the files `PREFIX-00000-of-00004` and so on. A file gets its name once it is complete,
so that a killed run leaves no half-written file under a name that readers look for.
"""

import contextlib
import hashlib
import itertools
import os
import re
import struct
from collections.abc import Iterable
from typing import Any, Self

import google_crc32c

from pipelines.files import require_end, written_whole
from pipelines.shards.shard_manifest import IMAGES, write_manifest

# A record of a TFRecord file is its length, the length's CRC, the payload, and the payload's CRC.
LENGTH = struct.Struct("<Q")
CRC = struct.Struct("<I")
HEADER_BYTES, FOOTER_BYTES = LENGTH.size + CRC.size, CRC.size

INDEX_BYTES = 1 << 20  # the index holds one offset per this many bytes, roughly
_SHARD = re.compile(r"(?P<prefix>.+)-\d{5,}-of-(?P<shards>\d{5,})")


def shard_path(prefix: str, shard: int, shards: int) -> str:
    """The path of a shard, such as `PREFIX-00003-of-00016`."""
    return f"{prefix}-{shard:05d}-of-{shards:05d}"


def shard_prefix(path: str | os.PathLike) -> str:
    """The prefix of a shard's path; the path itself if it is not named like a shard."""
    match = _SHARD.fullmatch(os.fspath(path))
    return match["prefix"] if match else os.fspath(path)


def matching(pattern: str) -> list[str]:
    """The files that match a glob pattern, sorted, without manifests and half-written ones."""
    import tensorflow as tf

    try:
        files = tf.io.gfile.glob(pattern)
    except tf.errors.NotFoundError:  # a folder of the pattern
        files = []
    files = sorted(f for f in files if not f.endswith(".manifest.json") and ".tmp-" not in f)
    if not files:
        raise ValueError(f"no file matches {pattern}")
    for file in files:
        require_end(file)
    return files


def masked_crc(data: bytes) -> int:
    """The checksum of TFRecord files: a CRC-32C, masked as the format requires."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


class LineFile:
    """A new file with one record per line: JSON, or other bytes without line breaks.

    If its block ends without an error, the file gets its name; otherwise it is removed.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = os.fspath(path)
        self._file = written_whole(self.path)
        self._digest = hashlib.sha256()
        self._records = self._bytes = 0
        self._index = []

    def __enter__(self) -> Self:
        self._stream = self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._file.__exit__(*error)

    def write(self, *records: bytes) -> None:
        """Appends records; many small ones are written faster in one call."""
        data = bytearray()
        for record in records:
            begin = self._bytes + len(data)
            if not self._index or begin - self._index[-1][1] >= INDEX_BYTES:
                self._index.append([self._records, begin])
            data += self._frame(record)
            self._records += 1
        self._stream.write(bytes(data))
        self._digest.update(data)
        self._bytes += len(data)

    @property
    def entry(self) -> dict:
        """The file's entry in the manifest.

        `name` (without the folder), `records`, `bytes`, `sha256` of the whole file, and `index`:
        pairs of a record's index and its offset in bytes, one about every MiB, the first of them
        (0, 0).
        """
        return {
            "name": os.path.basename(self.path),
            "records": self._records,
            "bytes": self._bytes,
            "sha256": self._digest.hexdigest(),
            "index": self._index or [[0, 0]],
        }

    def _frame(self, record: bytes) -> bytes:
        return record + b"\n"


class RecordFile(LineFile):
    """A new TFRecord file."""

    def _frame(self, record: bytes) -> bytes:
        length = LENGTH.pack(len(record))
        crcs = CRC.pack(masked_crc(length)), CRC.pack(masked_crc(record))
        return b"".join([length, crcs[0], record, crcs[1]])


def to_example(features: dict[str, Any]) -> bytes:
    """Serializes a `tf.train.Example`; equal features give equal bytes.

    A feature is bytes, str, or a number or array, which is flattened: integers and booleans are
    stored as int64, floats as float32.
    """
    import numpy as np
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
        else:
            feature.float_list.value.extend(array.tolist())
    # Without this the order of a map's entries would be undefined.
    return example.SerializePartialToString(deterministic=True)


def write_shards(
    serialized: Iterable[bytes],
    prefix: str,
    shards: int,
    kind: str = IMAGES,
    settings: dict | None = None,
    **manifest: Any,
) -> int:
    """Writes examples to the files `PREFIX-00000-of-00004` and so on, one to each in turn.

    The files get their names when all of them are whole, and the manifest comes last: a killed run
    leaves nothing that looks finished. Returns how many examples were written.
    """
    import tensorflow as tf

    tf.io.gfile.makedirs(os.path.dirname(prefix) or ".")
    with contextlib.ExitStack() as stack:
        files = [
            stack.enter_context(RecordFile(shard_path(prefix, shard, shards)))
            for shard in range(shards)
        ]
        for record, file in zip(serialized, itertools.cycle(files), strict=False):
            file.write(record)
    entries = [file.entry for file in files]
    write_manifest(prefix, kind, entries, settings or {}, **manifest)
    return sum(entry["records"] for entry in entries)
