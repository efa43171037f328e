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
    raw = b"".join(
        bz2.compress(content, level)
        for content, (_, _, level) in zip(contents, streams, strict=True)
    )
    with pytest.MonkeyPatch.context() as patch:
        if is_weak:
            patch.setattr(wikipedia, "_STREAM", re.compile(b"B"))
        pieces = _by_ranges(raw, [int(fraction * len(raw)) for fraction in fractions])
    assert b"".join(_joined(pieces).values()) == b"".join(contents)
    assert is_weak or not _damaged(pieces)
    # Nothing was read from a mark by chance.
    assert not _damaged(pieces).keys() & _joined(pieces).keys()


SIZES = (130_000, 0, 18, 90_000, 30_000)  # bytes of content


@pytest.fixture(scope="module")
def streams():
    """Five streams, one of them empty, as `(place, compressed, content)`."""
    contents = [_content(seed, size) for seed, size in enumerate(SIZES)]
    compressed = [bz2.compress(content, 1) for content in contents]
    places = itertools.accumulate(map(len, compressed[:-1]), initial=0)
    streams = list(zip(places, compressed, contents, strict=True))
    return lambda: streams  # hypothesis shows arguments, and these are long


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damage_is_never_silent(streams, data):
    raw = bytearray(b"".join(compressed for _, compressed, _ in streams()))
    kind = data.draw(st.sampled_from(["byte", "mark", "piece", "cut"]))
    if kind == "byte":
        place = data.draw(st.integers(0, len(raw) - 1))
    else:
        begin, _, _ = data.draw(st.sampled_from(streams()))
        place = max(0, begin + data.draw(st.integers(-14, 14)))
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
    contents = [content for _, _, content in streams() if content]
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
    raw = stream * 8 + bytes(6_000_000) + bz2.compress(_content(4, 6_000_000))
    file = io.BytesIO(raw)
    tracemalloc.start()
    try:
        streams = read_streams(file, 0, len(raw))
        pieces = [(begin, 0 if isinstance(c, Exception) else len(c)) for begin, c in streams]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [begin for begin, size in pieces if not size] == [7 * len(stream)]
    assert sum(size for _, size in pieces) == 8 * 850_000 + 6_000_000
    assert peak < 5e6
