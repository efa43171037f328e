"""Finds where the records of a TFRecord file lie, from their headers alone or around damage.

A record is its length, the length's checksum, the payload and the payload's checksum. One flipped
byte in a length hides everything after it from TensorFlow's reader: if errors are ignored, the
reader silently leaves out the rest of the file. `salvage` finds the next whole record instead.

The payloads' checksums lie between the headers, so a digest of them needs no extra reading. It
distinguishes these payloads from others. A payload that no longer matches its checksum is damage,
which reading shows.
"""

import bisect
import dataclasses
import hashlib
import re

from pipelines.files import reading
from pipelines.shards.shard_files import (
    CRC,
    FOOTER_BYTES,
    HEADER_BYTES,
    INDEX_BYTES,
    LENGTH,
    masked_crc,
)

_SEARCH_BYTES = 1 << 20
# A length below 4 GiB, as all records have, and its checksum; not all zeros.
_LIKE_A_HEADER = re.compile(rb"(?=(?!\0{12}).{4}\0{4}.{4})", re.DOTALL)
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
    index: tuple[int, ...]
    checksums: str = dataclasses.field(default="", compare=False)

    def part(self, begin, end):
        """Some of the records.

        Args:
            begin, end: int, indices in the file; `end` is excluded.

        Returns:
            `Run`. Its index begins at or before `begin`: a reader skips what comes before.
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


def scan(file):
    """Finds the records of a whole file from their headers.

    Args:
        file: str, local or `gs://`.

    Returns:
        `Run` of all its records.

    Raises:
        ValueError: a header is damaged, or the file ends inside a record.
    """
    digest = hashlib.sha256()
    run = _run(file, 0, record_offsets(file, digest))
    return dataclasses.replace(run, checksums=digest.hexdigest())


def salvage(file, entry=None):
    """Finds the whole records of a file that may be damaged; reads and checks every byte.

    Args:
        file: str, local or `gs://`.
        entry: dict, the file's entry in the manifest, if there is one. It shows how many records
            a hole held; without it, a hole counts as one record.

    Returns:
        (list of `Run`, list of `Damage`).
    """
    pieces, holes = [], []  # offsets of consecutive records; what is wrong after each piece
    offsets, position, digest = [], 0, hashlib.sha256()
    with reading(file) as (stream, size):
        while position < size:
            length, reason = _check_record(stream, position, size)
            if reason is None:
                offsets.append(position)
                position += length
                digest.update(_checksum(stream, position))
                continue
            pieces.append(offsets)
            holes.append(reason)
            offsets = []
            # The next record follows a damaged payload, if the length was right.
            position = position + length if length else _next_record(stream, position + 1, size)
    pieces.append(offsets)
    runs, damages = _numbered(file, pieces, holes, entry)
    return [dataclasses.replace(run, checksums=digest.hexdigest()) for run in runs], damages


def first_record(run):
    """Reads one record directly; `tf.data` would trace and optimise a graph for it.

    Args:
        run: `Run`.

    Returns:
        (the payload of the run's first record, bytes; what is wrong with it, str or None).

    Raises:
        ValueError: the file cannot be read.
    """
    number, position = run.index[0]
    with reading(run.file) as (stream, size):
        while True:
            whole, reason = _check_header(stream, position, size)
            if reason is not None:
                return b"", reason
            if number == run.first:
                return _payload(stream, position, whole)
            number, position = number + 1, position + whole


def _numbered(file, pieces, holes, entry):
    """Assigns record numbers to the pieces between the holes."""
    known = {offset: number for number, offset in entry["index"]} if entry else {}
    runs, damages, number = [], [], 0
    for place, offsets in enumerate(pieces):
        if place:
            first = number + 1
            anchors = [known[o] - i for i, o in enumerate(offsets) if o in known]
            if anchors:
                first = anchors[0]
            elif entry and place == len(pieces) - 1:
                first = entry["records"] - len(offsets)
            lost = max(first - number, 1)
            damages.append(Damage(file, number, holes[place - 1], lost))
            number += lost
        if offsets:
            runs.append(_run(file, number, offsets))
        number += len(offsets)
    if entry and number < entry["records"]:  # cut between two records
        damages.append(Damage(file, number, _CUT, entry["records"] - number))
    return runs, damages


def _run(file, first, offsets):
    """The `Run` of records at some offsets."""
    index, count = [], 0
    for offset in offsets:
        if not index or offset - index[-1][1] >= INDEX_BYTES:
            index.append((first + count, offset))
        count += 1
    return Run(file, first, count, tuple(index))


def record_offsets(file, digest=None):
    """Yields the offsets of all records of a whole file.

    Args:
        file: str, local or `gs://`.
        digest: `hashlib` object, updated with the checksums of the payloads, or None.

    Yields:
        int.

    Raises:
        ValueError: as in `scan`.
    """
    number = position = 0
    with reading(file) as (stream, size):
        while position < size:
            length, reason = _check_header(stream, position, size)
            if reason is not None:
                what = reason if reason == _CUT else "the file is damaged, or no TFRecord file"
                raise ValueError(
                    f"{file}: {what} (in record {number}); write it again, or skip damaged "
                    "records with --max_bad_records=N"
                )
            yield position
            number, position = number + 1, position + length
            if digest is not None:
                digest.update(_checksum(stream, position))


def _check_header(stream, position, size):
    """(bytes of the record, or 0 if that is not known; what is wrong with its header, or None)."""
    header = _read(stream, position, HEADER_BYTES)
    if len(header) < HEADER_BYTES:
        return size - position, _CUT
    if masked_crc(header[: LENGTH.size]) != CRC.unpack_from(header, LENGTH.size)[0]:
        return 0, "its length is damaged"
    whole = HEADER_BYTES + LENGTH.unpack_from(header)[0] + FOOTER_BYTES
    return (whole, None) if position + whole <= size else (size - position, _CUT)


def _check_record(stream, position, size):
    """The same for the whole record."""
    whole, reason = _check_header(stream, position, size)
    if reason is None:
        reason = _payload(stream, position, whole)[1]
    return whole, reason


def _payload(stream, position, whole):
    """(the payload of a record of `whole` bytes; what is wrong with it, or None)."""
    data = _read(stream, position + HEADER_BYTES, whole - HEADER_BYTES)
    payload, checksum = data[:-FOOTER_BYTES], data[-FOOTER_BYTES:]
    if masked_crc(payload) != CRC.unpack(checksum)[0]:
        return payload, "its content does not match its checksum"
    return payload, None


def _checksum(stream, end):
    """The checksum of the payload of the record that ends at `end`, as it is stored."""
    return _read(stream, end - FOOTER_BYTES, FOOTER_BYTES)


def _next_record(stream, position, size):
    """The offset of the next whole record at or after `position`; `size` if there is none."""
    while position < size:
        data = _read(stream, position, _SEARCH_BYTES + HEADER_BYTES - 1)
        for match in _LIKE_A_HEADER.finditer(data):
            place = match.start()
            crc = masked_crc(data[place : place + LENGTH.size])
            if crc == CRC.unpack_from(data, place + LENGTH.size)[0]:
                if _check_record(stream, position + place, size)[1] is None:
                    return position + place
        position += _SEARCH_BYTES
    return size


def _read(stream, position, count):
    stream.seek(position)
    return stream.read(count)
