import bz2
import io
import itertools
import random
import re
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.prepare import wikipedia
from pipelines.prepare.wikipedia import read_streams


def _content(seed, size):
    """Bytes that compress little."""
    return random.Random(seed).randbytes(size // 2).hex().encode()


def _own_pieces(raw, start, stop):
    """The pieces of the streams that begin in a range."""
    pieces = read_streams(io.BytesIO(raw), start, stop)
    return itertools.takewhile(lambda piece: piece[0] < stop, pieces)


def _damaged(pieces):
    """dict of a damaged stream's place to the reason."""
    return {begin: str(content) for begin, content in pieces if isinstance(content, Exception)}


def _by_ranges(raw, borders):
    """The pieces of all ranges between some borders."""
    ranges = itertools.pairwise([0, *sorted(borders), len(raw)])
    return [piece for start, stop in ranges for piece in _own_pieces(raw, start, stop)]


def _joined(pieces):
    """dict of a stream's place to its content; what is damaged is left out."""
    contents = {}
    for begin, content in pieces:
        if not isinstance(content, Exception):
            contents[begin] = contents.get(begin, b"") + content
    return contents


STREAMS = st.lists(
    st.tuples(st.integers(0, 2**32), st.integers(0, 260_000), st.integers(1, 9)),
    min_size=1,
    max_size=4,
)
FRACTIONS = st.lists(st.floats(0, 1), max_size=6)


@settings(max_examples=40, deadline=None)
@given(STREAMS, FRACTIONS, st.booleans())
def test_ranges_of_any_file_give_its_content(streams, fractions, is_weak):
    """Also where the mark is one letter, which occurs inside of streams by chance."""
    contents = [_content(seed, size) for seed, size, _ in streams]
    levels = [level for *_, level in streams]
    raw = b"".join(map(bz2.compress, contents, levels))
    with pytest.MonkeyPatch.context() as patch:
        if is_weak:
            patch.setattr(wikipedia, "_STREAM", re.compile(b"B"))
        pieces = _by_ranges(raw, [int(fraction * len(raw)) for fraction in fractions])
    assert b"".join(_joined(pieces).values()) == b"".join(contents)
    assert is_weak or not _damaged(pieces)
    # Nothing was read from a mark by chance.
    assert not _damaged(pieces).keys() & _joined(pieces).keys()


# Five streams, one of them empty.
CONTENTS = [_content(seed, size) for seed, size in enumerate((130_000, 0, 18, 90_000, 30_000))]
COMPRESSED = [bz2.compress(content, 1) for content in CONTENTS]
PLACES = [0, *itertools.accumulate(map(len, COMPRESSED[:-1]))]


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_damage_is_never_silent(data):
    raw = bytearray(b"".join(COMPRESSED))
    kind = data.draw(st.sampled_from(["byte", "mark", "piece", "cut"]))
    if kind == "byte":
        place = data.draw(st.integers(0, len(raw) - 1))
    else:
        place = max(0, data.draw(st.sampled_from(PLACES)) + data.draw(st.integers(-14, 14)))
    if kind == "piece":
        raw[place : place + 9] = data.draw(st.binary(min_size=0, max_size=20))
    elif kind == "cut":
        del raw[place:]
    else:
        raw[place] ^= 1 << data.draw(st.integers(0, 7))
    raw = bytes(raw)
    borders = data.draw(st.lists(st.integers(0, len(raw)), max_size=3))
    pieces = _by_ranges(raw, borders)
    lost = _damaged(pieces)
    assert len(lost) == sum(isinstance(content, Exception) for _, content in pieces)
    found = [content for begin, content in _joined(pieces).items() if begin not in lost]
    contents = [content for content in CONTENTS if content]
    if not lost and found != contents:
        # Cut between two streams it is a whole file, to everybody.
        assert kind == "cut" and b"".join(found) == bz2.decompress(raw)
    assert set(found) <= set(contents)
    if kind in ("byte", "mark"):  # the stream in which it lies, or the two between which it does
        assert len(found) >= len(contents) - 2
    # What is read before the damage, and what is lost, does not depend on the ranges.
    assert _joined(pieces) == _joined(_by_ranges(raw, []))


def test_memory_is_bounded():
    stream = bz2.compress(_content(3, 850_000))
    raw = stream * 6 + bytes(5_000_000) + bz2.compress(_content(4, 5_000_000))
    tracemalloc.start()
    try:
        streams = read_streams(io.BytesIO(raw), 0, len(raw))
        sizes = [0 if isinstance(content, Exception) else len(content) for _, content in streams]
        peak = tracemalloc.get_traced_memory()[1] - len(raw)  # of the file itself
    finally:
        tracemalloc.stop()
    assert sizes.count(0) == 1 and sum(sizes) == 6 * 850_000 + 5_000_000
    assert peak < 5e6
