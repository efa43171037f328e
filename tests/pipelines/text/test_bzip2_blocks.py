import bz2
import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.command_line import UserError
from pipelines.text import bzip2_blocks
from pipelines.text.bzip2_blocks import read_blocks


def _content(seed, size):
    """Bytes that compress little: blocks at every position in a byte."""
    return random.Random(seed).randbytes(size // 2).hex().encode()


def _by_ranges(path, borders):
    size = path.stat().st_size
    borders = [0, *sorted(borders), size]
    return [
        block
        for start, stop in zip(borders, borders[1:], strict=False)
        for block in read_blocks(path, start, stop, damaged=True)
    ]


@settings(max_examples=40, deadline=None)
@given(
    streams=st.lists(
        st.tuples(st.integers(0, 2**32), st.integers(0, 260_000), st.integers(1, 9)),
        min_size=1,
        max_size=4,
    ),
    fractions=st.lists(st.floats(0, 1), max_size=6),
)
def test_ranges_of_any_file_give_its_content(tmp_path_factory, streams, fractions):
    contents = [_content(seed, size) for seed, size, _ in streams]
    path = tmp_path_factory.mktemp("bz2") / "any.bz2"
    path.write_bytes(
        b"".join(
            bz2.compress(content, level)
            for content, (_, _, level) in zip(contents, streams, strict=True)
        )
    )
    blocks = _by_ranges(path, [int(fraction * path.stat().st_size) for fraction in fractions])
    assert b"".join(block.data for block in blocks) == b"".join(contents)
    assert len({block.bit for block in blocks}) == len(blocks)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A file of six blocks in four streams, one of them empty."""
    path = tmp_path_factory.mktemp("bz2") / "file.bz2"
    path.write_bytes(
        bz2.compress(_content(1, 250_000), 1) + bz2.compress(b"") + bz2.compress(b"x" * 9, 1)
    )
    path.write_bytes(path.read_bytes() + bz2.compress(_content(2, 190_000), 1))
    blocks = list(read_blocks(path))
    return lambda: (path, blocks)  # hypothesis shows arguments, and these are long


def test_every_border_between_two_blocks(file):
    path, blocks = file()
    assert len(blocks) == 6
    assert len({block.bit % 8 for block in blocks}) > 3
    for index, block in enumerate(blocks):
        for border, before in (
            (block.bit // 8, index),  # the range from the byte on in which it begins has it
            (block.bit // 8 + 1, index + 1),
        ):
            assert list(read_blocks(path, 0, border)) == blocks[:before]
            assert list(read_blocks(path, border)) == blocks[before:]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_is_never_silent(tmp_path_factory, file, data):
    path, blocks = file()
    raw = bytearray(path.read_bytes())
    kind = data.draw(st.sampled_from(["bit", "mark", "piece", "cut"]))
    if kind == "bit":
        bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    else:
        block = data.draw(st.sampled_from(blocks))
        bit = block.bit + data.draw(st.integers(-90, 90))
    if kind == "piece":
        raw[bit // 8 : bit // 8 + 9] = data.draw(st.binary(min_size=0, max_size=20))
    elif kind == "cut":
        del raw[bit // 8 :]
    else:
        raw[bit // 8] ^= 1 << (7 - bit % 8)
    damaged = tmp_path_factory.mktemp("bz2") / "damaged.bz2"
    damaged.write_bytes(raw)
    try:
        read = _by_ranges(damaged, [] if data.draw(st.booleans()) else [len(raw) // 2])
    except UserError as error:
        assert "is no bzip2 file" in str(error) and bit < 24
        return
    lost = [block for block in read if block.data is None]
    found = [block.data for block in read if block.data is not None]
    if not lost and found != [block.data for block in blocks]:
        # Cut between two streams it is a whole file, to everybody.
        assert kind == "cut" and b"".join(found) == bz2.decompress(raw)
    assert set(found) <= {block.data for block in blocks}
    if kind in ("bit", "mark"):  # the block in which it lies, or the two between which it does
        assert len(found) >= len(blocks) - 2


def test_a_damaged_block_loses_itself_alone_and_is_named(tmp_path, file):
    path, blocks = file()
    raw = bytearray(path.read_bytes())
    raw[blocks[2].bit // 8 + 1000] ^= 16
    damaged = tmp_path / "damaged.bz2"
    damaged.write_bytes(raw)
    place = blocks[2].bit // 8
    with pytest.raises(
        UserError, match=rf"damaged.bz2: the block at byte {place} of {len(raw)} is"
    ):
        list(read_blocks(damaged))
    read = list(read_blocks(damaged, damaged=True))
    assert [block.bit for block in read] == [block.bit for block in blocks]
    assert [block.data is None for block in read] == [index == 2 for index in range(6)]
    assert read[3:] == blocks[3:] == list(read_blocks(damaged, place + 1))


@pytest.mark.parametrize("is_end", [False, True])
def test_marks_that_occur_by_chance(monkeypatch, file, is_end):
    """A mark in the middle of a block: made up here, as it would take 35 TB to find one."""
    path, blocks = file()
    chance = [
        bzip2_blocks._Mark(blocks[1].bit + 50_001, is_end),
        bzip2_blocks._Mark(blocks[1].bit + 70_003, is_end),
        bzip2_blocks._Mark(blocks[-1].bit + 70_003, is_end),
    ]
    find = bzip2_blocks._find_marks

    def find_more(data, start):
        yield from find(data, start)
        yield from (m for m in chance if start <= m.bit // 8 < start + len(data))

    monkeypatch.setattr(bzip2_blocks, "_find_marks", find_more)
    assert list(read_blocks(path)) == blocks
    for mark in chance:  # ranges that begin in the middle of a block, before a mark by chance
        border = mark.bit // 8
        before = sum(block.bit // 8 < border for block in blocks)
        assert list(read_blocks(path, border)) == blocks[before:]
        assert list(read_blocks(path, 0, border + 1)) == blocks[:before]


def test_memory_is_bounded(tmp_path):
    path = tmp_path / "long.bz2"
    stream = bz2.compress(_content(3, 850_000))
    gap = bytes(12_000_000)
    path.write_bytes(stream * 20 + gap + stream)
    tracemalloc.start()
    try:
        lost = sum(block.data is None for block in read_blocks(path, damaged=True))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert lost == 1
    assert peak < 14e6


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "file.bz2"
    with pytest.raises(UserError, match="file.bz2: cannot be read .No such file"):
        list(read_blocks(path))
    for content in (b"", b"<mediawiki>"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="file.bz2: is no bzip2 file"):
            list(read_blocks(path))
