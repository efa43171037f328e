"""Where the records of a TFRecord file lie: by their headers alone, or around damage.

A record is its length, the length's checksum, the payload and the payload's checksum. One flipped
byte in a length hides everything behind it from TensorFlow's reader, which then stops for that file
without saying so where errors are ignored. `salvage` finds the next whole record instead.
"""

import contextlib
import dataclasses
import functools

import numpy as np

from pipelines.command_line import UserError
from pipelines.shards.shard_files import (
    CRC,
    FOOTER_BYTES,
    HEADER_BYTES,
    INDEX_BYTES,
    LENGTH,
    masked_crc,
)

_SEARCH_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Run:
    """Consecutive whole records of one file.

    Attributes:
        file: str.
        first: int, the number of its first record in the file.
        count: int, how many records.
        index: tuple of (number in the file, offset in bytes), ascending; begins with the first.
    """

    file: str
    first: int
    count: int
    index: tuple[int, ...]

    def part(self, begin, end):
        """The records `begin` to `end` (excluded) of the file as a run.

        Its index begins at or before `begin`: a reader skips up to there.
        """
        numbers = [number for number, _ in self.index]
        nearest = int(np.searchsorted(numbers, begin, "right")) - 1
        index = tuple(place for place in self.index[nearest:] if place[0] < end)
        return Run(self.file, begin, end - begin, index)


@dataclasses.dataclass(frozen=True)
class Damage:
    """Records of a file that cannot be used.

    Attributes:
        file: str.
        record: int, the number of the first of them in the file.
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
    """The run of all records of a file, found by their headers.

    Raises:
        UserError: a header is damaged, or the file ends inside a record.
    """
    index, count, position = [], 0, 0
    with _open(file) as (stream, size):
        while position < size:
            header = _read(stream, position, HEADER_BYTES)
            if not _is_header(header):
                what = "cut short" if len(header) < HEADER_BYTES else "damaged, or no TFRecord file"
                raise UserError(_unusable(file, count, f"the file is {what}"))
            end = position + HEADER_BYTES + LENGTH.unpack_from(header)[0] + FOOTER_BYTES
            if end > size:
                raise UserError(_unusable(file, count, "the file is cut short"))
            if not index or position - index[-1][1] >= INDEX_BYTES:
                index.append((count, position))
            count, position = count + 1, end
    return Run(file, 0, count, tuple(index))


def salvage(file, entry=None):
    """The whole records of a file that may be damaged; reads and checks every byte.

    Args:
        file: str.
        entry: dict, the file's entry in the manifest, if there is one. It tells how many records
            a hole has held; otherwise a hole counts as one.

    Returns:
        (list of `Run`, list of `Damage`).
    """
    pieces, holes = [], []  # offsets of consecutive records; (offset, reason) before each piece
    offsets, position = [], 0
    with _open(file) as (stream, size):
        while position < size:
            length, reason = _check_record(stream, position, size)
            if reason is None:
                offsets.append(position)
                position += length
                continue
            pieces.append(offsets)
            holes.append(reason)
            offsets = []
            # Behind a damaged payload stands the next record, if the length was right.
            position = position + length if length else _next_record(stream, position + 1, size)
    pieces.append(offsets)
    return _numbered(file, pieces, holes, entry)


def _numbered(file, pieces, holes, entry):
    """Gives the pieces between the holes their record numbers."""
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
            index = [(number, offsets[0])]
            for i, offset in enumerate(offsets):
                if offset - index[-1][1] >= INDEX_BYTES:
                    index.append((number + i, offset))
            runs.append(Run(file, number, len(offsets), tuple(index)))
        number += len(offsets)
    if entry and number < entry["records"]:  # cut at the border of two records
        damages.append(Damage(file, number, "the file is cut short", entry["records"] - number))
    return runs, damages


def _check_record(stream, position, size):
    """(bytes of the record, or 0 if that is not known; what is wrong with it, or None)."""
    header = _read(stream, position, HEADER_BYTES)
    if len(header) < HEADER_BYTES:
        return size - position, "the file is cut short"
    if not _is_header(header):
        return 0, "its length is damaged"
    length = LENGTH.unpack_from(header)[0]
    if position + HEADER_BYTES + length + FOOTER_BYTES > size:
        return size - position, "the file is cut short"
    payload = _read(stream, position + HEADER_BYTES, length + FOOTER_BYTES)
    whole = HEADER_BYTES + length + FOOTER_BYTES
    if masked_crc(payload[:length]) != CRC.unpack_from(payload, length)[0]:
        return whole, "its content does not have its checksum"
    return whole, None


def _next_record(stream, position, size):
    """The offset of the next whole record at or behind `position`; `size` if there is none."""
    while position < size:
        data = np.frombuffer(_read(stream, position, _SEARCH_BYTES + HEADER_BYTES), np.uint8)
        windows = len(data) - HEADER_BYTES + 1
        if windows <= 0:
            break
        tables, constant = _length_crc_tables()
        crc = np.full(windows, constant, np.uint32)
        for i in range(LENGTH.size):
            crc ^= tables[i][data[i : i + windows]]
        stored = sum(
            data[LENGTH.size + i : LENGTH.size + i + windows].astype(np.uint32) << np.uint32(8 * i)
            for i in range(CRC.size)
        )
        masked = (crc >> np.uint32(15) | crc << np.uint32(17)) + np.uint32(0xA282EAD8)
        for candidate in np.flatnonzero(masked == stored):
            if _check_record(stream, position + int(candidate), size)[1] is None:
                return position + int(candidate)
        position += windows
    return size


@functools.cache
def _length_crc_tables():
    """CRC-32C of eight bytes as an exclusive or of eight table entries and a constant."""
    import google_crc32c

    constant = google_crc32c.value(bytes(LENGTH.size))
    tables = np.zeros((LENGTH.size, 256), np.uint32)
    for i in range(LENGTH.size):
        for value in range(256):
            data = bytearray(LENGTH.size)
            data[i] = value
            tables[i, value] = google_crc32c.value(bytes(data)) ^ constant
    return tables, constant


def _is_header(header):
    whole = len(header) == HEADER_BYTES
    return whole and masked_crc(header[: LENGTH.size]) == CRC.unpack_from(header, LENGTH.size)[0]


def _unusable(file, record, what):
    return (
        f"{file}: {what} (in record {record}); write it again, or go on without what is lost by "
        "--max_bad_records=N"
    )


@contextlib.contextmanager
def _open(file):
    """Gives (stream, size)."""
    import tensorflow as tf

    try:
        if "://" in file:
            with tf.io.gfile.GFile(file, "rb") as stream:
                yield stream, stream.size()
        else:
            # TensorFlow's would read half a MiB for every header.
            with open(file, "rb", buffering=0) as stream:
                yield stream, stream.seek(0, 2)
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"{file}: cannot be read ({error})") from error


def _read(stream, position, count):
    stream.seek(position)
    return stream.read(count)
