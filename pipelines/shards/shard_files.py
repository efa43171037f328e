"""One file of a sharded data set: written under a temporary name, and described for the manifest.

A data set is the files `PREFIX-00000-of-00004` and so on. A file gets its name once it is complete,
so that a killed run leaves no half-written file under a name that readers look for.
"""

import hashlib
import os
import re
import struct

import google_crc32c

from pipelines.files import require_end, written_whole

# A record of a TFRecord file is its length, the length's CRC, the payload, and the payload's CRC.
LENGTH = struct.Struct("<Q")
CRC = struct.Struct("<I")
HEADER_BYTES, FOOTER_BYTES = LENGTH.size + CRC.size, CRC.size

INDEX_BYTES = 1 << 20  # the index holds one offset per this many bytes, roughly
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
        str; the path itself if it is not named like a shard.
    """
    match = _SHARD.fullmatch(os.fspath(path))
    return match["prefix"] if match else os.fspath(path)


def matching(pattern: str) -> list[str]:
    """The data files that match a glob pattern, sorted, without manifests and half-written files.

    Raises:
        ValueError: nothing matches.
    """
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


def masked_crc(data):
    """The checksum of TFRecord files: a CRC-32C, masked as the format requires.

    Args:
        data: bytes.

    Returns:
        int, 32 bits.
    """
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


class _ShardFile:
    """A context manager around one file, local or `gs://`.

    If the block ends without an error, the file gets its name; otherwise it is removed.

    Args:
        path: str; its folder must exist.
    """

    def __init__(self, path):
        self.path = os.fspath(path)
        self._file = written_whole(self.path)
        self._digest = hashlib.sha256()
        self._records = self._bytes = 0
        self._index = []

    def __enter__(self):
        self._stream = self._file.__enter__()
        return self

    def __exit__(self, *error):
        return self._file.__exit__(*error)

    def write(self, *records):
        """Appends records, each bytes; many small ones are written faster in one call."""
        data = bytearray()
        for record in records:
            begin = self._bytes + len(data)
            if not self._index or begin - self._index[-1][1] >= INDEX_BYTES:
                self._index.append([self._records, begin])
            data += self._framed(record)
            self._records += 1
        self._stream.write(bytes(data))
        self._digest.update(data)
        self._bytes += len(data)

    @property
    def entry(self):
        """The file's entry in the manifest.

        A dict of `name` (without the folder), `records`, `bytes`, `sha256` of the whole file, and
        `index`: pairs of a record's index and its offset in bytes, one about every MiB, the first
        of them (0, 0).
        """
        return {
            "name": os.path.basename(self.path),
            "records": self._records,
            "bytes": self._bytes,
            "sha256": self._digest.hexdigest(),
            "index": self._index or [[0, 0]],
        }


class RecordFile(_ShardFile):
    """A TFRecord file."""

    def _framed(self, record):
        length = LENGTH.pack(len(record))
        return b"".join(
            [length, CRC.pack(masked_crc(length)), record, CRC.pack(masked_crc(record))]
        )


class LineFile(_ShardFile):
    """A file with one record per line: JSON, or other bytes without line breaks."""

    def _framed(self, record):
        return record + b"\n"
