"""Reads any part of a bzip2 file without reading what lies before it, and without an index.

A bzip2 file is a sequence of streams, and a stream a sequence of blocks that are independent of
each other: each holds up to 900 kB of the content and begins with the same 48 bits, at any bit of
the file. So a block is found by searching for these bits in all eight positions of a byte. It is
then cut out, moved to the border of a byte, and given to Python's `bz2` as a stream of one block;
that checks its CRC.

The 48 bits may occur inside a block by chance (about once in 35 TB): a block that fails is tried
again together with the piece after it, and a block that seems to be damaged is looked for inside of
the one before it.
"""

import bz2
import collections
import contextlib
import dataclasses
import os
from collections.abc import Iterator

from pipelines.command_line import UserError, one_line

_BLOCK, _END = 0x314159265359, 0x177245385090
_MARK_BITS, _CRC_BITS = 48, 32
_HEADER_BYTES = 4  # BZh9
# A block of 900,000 bytes that cannot be compressed takes 1 % and 600 bytes more.
_MAX_BLOCK_BYTES = 1_000_000
_READ_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        bit: int, where it begins in the file, in bits.
        data: bytes, its content; None if it is damaged.
        reason: str, what is wrong with it, or None.
    """

    bit: int
    data: bytes | None = dataclasses.field(repr=False)
    reason: str | None = None

    @property
    def place(self):
        """Where it begins, in words."""
        return f"block at byte {self.bit // 8}"


def read_blocks(path, start=0, stop=None, *, damaged=False) -> Iterator[Block]:
    """Yields the blocks that begin in a range of a bzip2 file, in order.

    Ranges that follow each other give each block once. Memory holds a few MB at a time.

    Args:
        path: str, local or `gs://`.
        start, stop: int, a range in bytes of the compressed file; to its end by default.
        damaged: bool, also yield blocks that cannot be read, without data.

    Raises:
        UserError: the file is missing, is no bzip2 file, or, unless `damaged`, holds a block in the
            range that cannot be read.
    """
    with open_binary(path) as (stream, size):
        _check_header(path, stream)
        stop = size if stop is None else stop
        for block in _read(stream, size, start, stop):
            if block.data is None and not damaged:
                raise UserError(
                    f"{path}: the {block.place} of {size} is damaged ({block.reason}); download "
                    "the file again"
                )
            yield block


@contextlib.contextmanager
def open_binary(path):
    """Opens a file, local or remote, as (stream, size in bytes)."""
    if "://" in str(path):
        import tensorflow as tf

        try:
            size = tf.io.gfile.stat(path).length
        except tf.errors.NotFoundError:
            raise UserError(f"{path}: cannot be read (No such file or directory)") from None
        except tf.errors.OpError as error:
            raise UserError(f"{path}: cannot be read ({one_line(error)})") from error
        with tf.io.gfile.GFile(path, "rb") as stream:
            yield stream, size
        return
    try:
        stream = open(path, "rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    with stream:
        yield stream, os.fstat(stream.fileno()).st_size


def _check_header(path, stream):
    header = stream.read(_HEADER_BYTES)
    if header[:3] != b"BZh":
        raise UserError(f"{path}: is no bzip2 file; it begins with {header!r}")


def _read(stream, size, start, stop):
    """Yields the blocks whose marks begin in the range, damaged or not."""
    window = _Window(stream, start)
    mark = window.first_mark(8 * start)
    # Whether the mark is certainly where a block begins or a stream ends, and no chance.
    is_certain = start == 0 and mark is not None and mark.bit == 8 * _HEADER_BYTES
    if start == 0 and not is_certain and stop > 0:
        yield Block(8 * _HEADER_BYTES, None, "no block begins there")
    while mark is not None and mark.bit < 8 * stop:
        if mark.is_end:
            block, following = _check_end(window, mark, size), window.first_mark(mark.bit + 1)
        else:
            block, following = _decode_at(window, mark)
        failed = block is not None and block.data is None
        if failed and not is_certain and (end := _end_of_block_around(stream, mark)) is not None:
            block, following, failed = None, window.first_mark(end), False
        if block is not None:
            yield block
        is_certain = not failed
        mark = following
        if mark is not None:
            window.forget(mark.bit)


def _decode_at(window, mark):
    """The block at a mark, and the mark after it: a later one than the next if that is chance."""
    limit = mark.bit + 8 * _MAX_BLOCK_BYTES
    end = window.first_mark(mark.bit + 1, limit)
    while end is not None:
        data = _decode(window.bits(mark.bit, end.bit), end.bit - mark.bit)
        if data is not None:
            return Block(mark.bit, data), end
        end = window.first_mark(end.bit + 1, limit)
    following = window.first_mark(mark.bit + 1)
    reason = "it cannot be decompressed" if following is not None else "the file ends in it"
    return Block(mark.bit, None, reason), following


def _decode(bits, length):
    """The content of a block, or None.

    Args:
        bits: int, the block from its mark on.
        length: int, how many bits these are.
    """
    if length < _MARK_BITS + _CRC_BITS:
        return None
    # A stream's CRC is made of those of its blocks; of one block, it is the same.
    crc = bits >> (length - _MARK_BITS - _CRC_BITS) & ((1 << _CRC_BITS) - 1)
    bits = ((bits << _MARK_BITS) | _END) << _CRC_BITS | crc
    length += _MARK_BITS + _CRC_BITS
    bits <<= -length % 8
    decompressor = bz2.BZ2Decompressor()
    try:
        data = decompressor.decompress(b"BZh9" + bits.to_bytes((length + 7) // 8, "big"))
    except (OSError, ValueError):
        return None
    return data if decompressor.eof and not decompressor.unused_data else None


def _check_end(window, mark, size):
    """After a stream comes the end of the file, or the first mark of the next: else a bad block."""
    here = -(-(mark.bit + _MARK_BITS + _CRC_BITS) // 8)
    if here >= size:
        return None if here == size else Block(mark.bit, None, "the file ends in it")
    following = window.first_mark(mark.bit + 1)
    if following is not None and following.bit == 8 * (here + _HEADER_BYTES):
        return None
    return Block(8 * here, None, "no block begins there")


def _end_of_block_around(stream, mark):
    """Where the sound block ends that holds this mark by chance; None if there is none."""
    window = _Window(stream, max(0, mark.bit // 8 - _MAX_BLOCK_BYTES))
    begin = window.first_mark(0)
    while begin is not None and begin.bit < mark.bit:
        if not begin.is_end:
            block, end = _decode_at(window, begin)
            if block.data is not None and end.bit > mark.bit:
                return end.bit
        begin = window.first_mark(begin.bit + 1)
    return None


@dataclasses.dataclass(frozen=True, order=True)
class _Mark:
    """Where a block begins or a stream ends, or what looks the same."""

    bit: int
    is_end: bool


class _Window:
    """A part of a file, in which marks are searched. It moves on as they are asked for."""

    def __init__(self, stream, start):
        self._stream = stream
        self._start = self._searched = start  # in bytes; marks before `_searched` are known
        self._data = b""
        self._marks = collections.deque()

    def first_mark(self, bit, limit=None):
        """The first mark at or after `bit` and up to `limit`, or else to the file's end; or None.

        Without a limit the bits before that mark may be given up: memory stays bounded.
        """
        while True:
            for mark in self._marks:
                if mark.bit >= bit:
                    return mark if limit is None or mark.bit <= limit else None
            if limit is not None and 8 * self._searched > limit:
                return None
            if limit is None and len(self._data) > 4 * _READ_BYTES:
                self._drop(self._searched)
            if not self._extend():
                return None

    def bits(self, begin, end):
        """The bits of a range, as one number. It must not lie before `forget`, nor after marks."""
        data = self._data[begin // 8 - self._start : -(-end // 8) - self._start]
        return int.from_bytes(data, "big") >> (-end % 8) & ((1 << (end - begin)) - 1)

    def forget(self, bit):
        """Gives up what lies before `bit`."""
        if bit // 8 - self._start >= _READ_BYTES:  # not each time: it copies
            self._drop(bit // 8)
        while self._marks and self._marks[0].bit < bit:
            self._marks.popleft()

    def _drop(self, place):
        self._data = self._data[place - self._start :]
        self._start = place

    def _extend(self):
        """Reads on and searches; False at the end of the file."""
        end = self._start + len(self._data)
        self._stream.seek(end)
        data = self._stream.read(_READ_BYTES)
        if not data:
            return False
        self._data += data
        # A mark that begins in the last bytes cannot be seen whole yet.
        stop = max(self._searched, end + len(data) - _MARK_BITS // 8)
        piece = self._data[self._searched - self._start :]
        found = (mark for mark in _find_marks(piece, self._searched) if mark.bit < 8 * stop)
        self._marks.extend(sorted(found))
        self._searched = stop
        return True


def _patterns():
    """For each mark and position in a byte: the whole bytes in it, to be searched; and all bits."""
    for mark in (_BLOCK, _END):
        for shift in range(8):
            # The mark from bit `shift` of the first byte on, in seven bytes.
            value = mark << (8 - shift)
            whole = value.to_bytes(7, "big")[1 if shift else 0 : 6]
            mask = ((1 << _MARK_BITS) - 1) << (8 - shift)
            yield whole, 1 if shift else 0, shift, value, mask, mark == _END


_PATTERNS = tuple(_patterns())


def _find_marks(data, start):
    """Yields the marks in bytes that lie at `start` of the file, in no order."""
    for whole, before, shift, value, mask, is_end in _PATTERNS:
        place = data.find(whole, before)
        while place >= 0:
            first = place - before
            seven = int.from_bytes(data[first : first + 7].ljust(7, b"\0"), "big")
            if seven & mask == value:
                yield _Mark(8 * (start + first) + shift, is_end)
            place = data.find(whole, place + 1)
