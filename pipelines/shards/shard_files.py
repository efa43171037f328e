"""One file of a sharded data set: written under a temporary name, and described for the manifest.

A data set is the files `PREFIX-00000-of-00004` and so on. A file gets its name when it is whole, so
that a killed run leaves no half-written file under a name that readers look for.
"""

import hashlib
import os
import re
import struct
import uuid

# A record of a TFRecord file is its length, the length's CRC, the payload, and the payload's CRC.
LENGTH = struct.Struct("<Q")
CRC = struct.Struct("<I")
HEADER_BYTES, FOOTER_BYTES = LENGTH.size + CRC.size, CRC.size

INDEX_BYTES = 1 << 20  # the index holds an offset about every so many bytes
_BUFFER_BYTES = 1 << 20
_SHARD = re.compile(r"(?P<prefix>.+)-\d{5,}-of-(?P<shards>\d{5,})")


def shard_path(prefix, shard, shards):
    """The path of a shard.

    Args:
        prefix: str, local or `gs://`.
        shard: int, from 0.
        shards: int, how many there are.

    Returns:
        str, such as `PREFIX-00003-of-00016`.
    """
    return f"{prefix}-{shard:05d}-of-{shards:05d}"


def shard_prefix(path):
    """The prefix of a shard's path.

    Args:
        path: str or path-like.

    Returns:
        str; the path itself if it is not named as a shard.
    """
    match = _SHARD.fullmatch(os.fspath(path))
    return match["prefix"] if match else os.fspath(path)


def matching(pattern):
    """The data files that match a pattern, without manifests and half-written files.

    Args:
        pattern: str, glob pattern, local or `gs://`.

    Returns:
        sorted list of str.
    """
    import tensorflow as tf

    try:
        files = tf.io.gfile.glob(pattern)
    except tf.errors.NotFoundError:
        files = []
    return sorted(f for f in files if not f.endswith(".manifest.json") and ".tmp-" not in f)


def masked_crc(data):
    """The checksum of TFRecord files: a CRC-32C, masked as the format asks.

    Args:
        data: bytes.

    Returns:
        int, 32 bits.
    """
    import google_crc32c

    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


class _ShardFile:
    """A context manager around one file, local or `gs://`.

    If the block ends without an error, the file gets its name; otherwise it is removed.

    Args:
        path: str; its folder must exist.

    Attributes:
        entry: dict, after the block: `name` (without the folder), `records`, `bytes`, `sha256` of
            the whole file, and `index`: pairs of a record's index and its offset in bytes, one
            about every MiB, the first of them (0, 0).
    """

    def __init__(self, path):
        self.path = os.fspath(path)
        self.entry = None
        self._temporary = f"{self.path}.tmp-{uuid.uuid4().hex}"
        self._records = self._bytes = 0
        self._index = []
        self._buffer = bytearray()

    def __enter__(self):
        import tensorflow as tf

        self._digest = hashlib.sha256()
        self._stream = tf.io.gfile.GFile(self._temporary, "wb")
        return self

    def write(self, record):
        """Appends one record, bytes."""
        if not self._index or self._bytes - self._index[-1][1] >= INDEX_BYTES:
            self._index.append([self._records, self._bytes])
        framed = self._framed(record)
        self._buffer += framed
        self._records += 1
        self._bytes += len(framed)
        if len(self._buffer) >= _BUFFER_BYTES:
            self._flush()

    def __exit__(self, kind, error, traceback):
        import tensorflow as tf

        try:
            if kind is None:
                self._flush()
                self._stream.close()
                tf.io.gfile.rename(self._temporary, self.path, overwrite=True)
                self.entry = {
                    "name": os.path.basename(self.path),
                    "records": self._records,
                    "bytes": self._bytes,
                    "sha256": self._digest.hexdigest(),
                    "index": self._index or [[0, 0]],
                }
        finally:
            if self.entry is None:
                self._stream.close()
                if tf.io.gfile.exists(self._temporary):
                    tf.io.gfile.remove(self._temporary)

    def _flush(self):
        data = bytes(self._buffer)
        self._buffer.clear()
        self._digest.update(data)
        self._stream.write(data)


class RecordFile(_ShardFile):
    """A TFRecord file."""

    def _framed(self, record):
        length = LENGTH.pack(len(record))
        return b"".join(
            [length, CRC.pack(masked_crc(length)), record, CRC.pack(masked_crc(record))]
        )


class LineFile(_ShardFile):
    """A file with a record a line: JSON, or other bytes without line breaks."""

    def _framed(self, record):
        return record + b"\n"
