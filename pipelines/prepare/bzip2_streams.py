"""Reads a part of a bzip2 file that has many streams, without reading what comes before it.

A bzip2 file is one or more streams, end to end. Wikipedia's multistream dumps hold a stream for
every hundred pages. A stream begins at a byte boundary, always with the same letters. A search for
them finds the first stream of a range; each later one begins where the one before it ends.

The letters occur inside a stream by chance, about once in 10^22 bytes. Nothing can be unpacked from
there, so that place counts as damage, but the stream around it is read whole, by its own range.
"""

import bz2
import dataclasses
import re
from collections.abc import Iterator

_STREAM = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")  # the latter: a stream without content
_MARK_BYTES = 10
_READ_BYTES = 1 << 16  # compressed; at the highest level a block takes some 200 kB
_CONTENT_BYTES = 1 << 24  # of a piece at most: a file of one repeated letter grows a million times


@dataclasses.dataclass(frozen=True)
class Piece:
    """Some of the content of a stream.

    Attributes:
        begin: the byte of the file at which the stream begins.
        place: a byte of the file that it was read from.
        data: None where the rest of the stream cannot be read.
        reason: what is wrong with the stream.
    """

    begin: int
    place: int
    data: bytes | None = dataclasses.field(repr=False)
    reason: str | None = None


def read_streams(file, start: int, stop: int) -> Iterator[Piece]:
    """Yields the content of the streams that begin in a range, and of those after it, in order.

    The caller stops when it has all that began in its range. After damage, reading resumes at the
    next stream that begins in the range. A stream followed by anything but a stream counts as
    damaged. So each damage belongs to exactly one range of a file.

    Args:
        file: seekable binary file.
        start, stop: a range in bytes of the compressed file.

    Yields:
        Some MB of content at most.
    """
    begin = find_stream(file, start, stop) if start else 0
    while begin is not None:
        try:
            begin = yield from _pieces(file, begin)
        except (EOFError, OSError) as error:  # the latter: from `BZ2Decompressor`
            yield Piece(begin, file.tell() - 1, None, str(error))
            begin = find_stream(file, begin + 1, stop)


def find_stream(file, start: int, stop: int) -> int | None:
    """The first place in a range of bytes that looks like the beginning of a stream."""
    for place in range(start, stop, _READ_BYTES):
        file.seek(place)
        mark = _STREAM.search(file.read(_READ_BYTES + _MARK_BYTES - 1))
        if mark and place + mark.start() < stop:
            return place + mark.start()
    return None


def _pieces(file, begin):
    """Yields the content of a stream; returns where the next one begins, None at the file's end."""
    decompressor, place, end = bz2.BZ2Decompressor(), begin, begin
    file.seek(begin)
    while not decompressor.eof:
        data = b""
        if decompressor.needs_input:
            place = end
            # Reads end at fixed places, so what is read before damage is the same for all ranges.
            data = file.read(_READ_BYTES - place % _READ_BYTES)
            if not data:
                raise EOFError("the file ends in it")
            end += len(data)
        if content := decompressor.decompress(data, _CONTENT_BYTES):
            yield Piece(begin, place, content)
    end -= len(decompressor.unused_data)
    file.seek(end)
    following = file.read(_MARK_BYTES)
    if following and not _STREAM.match(following):
        raise OSError(f"no stream begins at byte {end}, where it ends")
    return end if following else None
