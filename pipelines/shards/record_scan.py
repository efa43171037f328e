"""Finds where the records of a TFRecord file lie, from their headers alone.

A record is its length, the length's checksum, the payload and the payload's checksum. What follows
a damaged length cannot be found: the rest of that file is lost.

The payloads' checksums lie between the headers, so a digest of them needs no extra reading. It
distinguishes these payloads from others. A payload that no longer matches its checksum is damage,
which reading shows.
"""

import bisect
import dataclasses
import hashlib

from pipelines.files import reading
from pipelines.shards.shard_files import (
    CRC,
    FOOTER_BYTES,
    HEADER_BYTES,
    INDEX_BYTES,
    LENGTH,
    masked_crc,
)

_CUT = "the file is cut short"


@dataclasses.dataclass(frozen=True)
class Run:
    """Consecutive whole records of one file.

    Attributes:
        file: str.
        first: int, the index of its first record in the file.
        count: int, how many records.
        index: tuple of (record's index in the file, offset in bytes), ascending; begins with the
            first record or before it.
        checksums: str, the SHA-256 of the checksums of all whole records of the file; empty if
            they have not been read.
    """

    file: str
    first: int
    count: int
    index: tuple[tuple[int, int], ...]
    checksums: str = dataclasses.field(default="", compare=False)

    def part(self, begin: int, end: int) -> "Run":
        """The records `begin` to `end` (excluded), indices in the file.

        Its index begins at or before `begin`: a reader skips what comes before.
        """
        nearest = bisect.bisect_right(self.index, begin, key=lambda place: place[0]) - 1
        index = tuple(place for place in self.index[nearest:] if place[0] < end)
        return Run(self.file, begin, end - begin, index, self.checksums)


@dataclasses.dataclass(frozen=True)
class Damage:
    """Records of a file that cannot be used.

    Attributes:
        file: str.
        record: int, the index of the first of them in the file.
        reason: str.
        records: int, how many.
    """

    file: str
    record: int
    reason: str
    records: int = 1

    def __str__(self):
        last = f" to {self.record + self.records - 1}" if self.records > 1 else ""
        return f"{self.file}: record {self.record}{last}: {self.reason}"


def scan(file: str, records: int | None = None) -> tuple[Run, Damage | None]:
    """Finds the records of a file, local or `gs://`, up to the first damaged length.

    Args:
        file: its path.
        records: how many it should hold. If that is not known, what the damage has taken is
            estimated from the lengths of the records before it.

    Returns:
        (the records, what is lost at the end).
    """
    digest, index = hashlib.sha256(), []
    number = position = 0
    reason = None
    with reading(file) as (stream, size):
        while position < size:
            whole, reason = _check_header(stream, position, size)
            if reason is not None:
                break
            if not index or position - index[-1][1] >= INDEX_BYTES:
                index.append((number, position))
            number, position = number + 1, position + whole
            digest.update(_read(stream, position - FOOTER_BYTES, FOOTER_BYTES))
    if records is None:
        records = number
        if reason is not None:
            records += max((size - position) * number // max(position, 1), 1)
    run = Run(file, 0, number, tuple(index), digest.hexdigest())
    if number >= records:
        return run, None
    return run, Damage(file, number, reason or _CUT, records - number)


def first_record(run: Run) -> tuple[bytes, str | None]:
    """Reads one record directly; `tf.data` would trace and optimise a graph for it.

    Returns:
        (the payload of the run's first record, what is wrong with it).
    """
    number, position = run.index[0]
    with reading(run.file) as (stream, size):
        while True:
            whole, reason = _check_header(stream, position, size)
            if reason is not None:
                return b"", reason
            if number == run.first:
                break
            number, position = number + 1, position + whole
        data = _read(stream, position + HEADER_BYTES, whole - HEADER_BYTES)
    payload, checksum = data[:-FOOTER_BYTES], data[-FOOTER_BYTES:]
    is_whole = masked_crc(payload) == CRC.unpack(checksum)[0]
    return payload, None if is_whole else "its content does not match its checksum"


def _check_header(stream, position, size):
    """(bytes of the record, what is wrong with its header or None)."""
    header = _read(stream, position, HEADER_BYTES)
    if len(header) < HEADER_BYTES:
        return 0, _CUT
    if masked_crc(header[: LENGTH.size]) != CRC.unpack_from(header, LENGTH.size)[0]:
        return 0, "its length is damaged, or this is no TFRecord file"
    whole = HEADER_BYTES + LENGTH.unpack_from(header)[0] + FOOTER_BYTES
    return whole, None if position + whole <= size else _CUT


def _read(stream, position, count):
    stream.seek(position)
    return stream.read(count)
