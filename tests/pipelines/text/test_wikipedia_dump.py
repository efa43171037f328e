import bz2
import itertools
import random
import re
import tracemalloc
import xml.etree.ElementTree as ElementTree

import pytest

from pipelines.command_line import UserError
from pipelines.text import wikipedia_dump
from pipelines.text.bzip2_blocks import read_blocks
from pipelines.text.wikipedia_dump import Page, read_pages

PROSE = "This is a sentence of prose that has words enough."


def test_the_dump_is_streamed(write_dump):
    page = f"{PROSE}\n\n" * 200
    path = write_dump([(f"Page {number}", 0, page) for number in range(700)])  # 7 MB of text
    tracemalloc.start()
    try:
        count = sum(1 for _ in read_pages(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 700
    assert peak < 5e6  # a block of bzip2 is 0.9 MB


BLOCK = 99_981  # bytes of content in a block, at compression level 1, where no byte occurs 4 times


@pytest.fixture(scope="module")
def content():
    """XML in which the borders of blocks cut tags in every way."""
    noise = random.Random(7)
    pieces, size = [], 0

    def add(text):
        nonlocal size
        pieces.append(text)
        size += len(text)

    def add_page(name, length):
        begin, end = f"<page><title>{name}</title><ns>0</ns><text>", "</text></page>\n"
        length -= len(begin) + len(end)
        text = re.sub(r"(.)\1\1+", r"\1-\1", noise.randbytes(length).hex())
        add(begin + text[:length] + end)

    add('<mediawiki xmlns="x"><siteinfo>no <pages> here</siteinfo>\n')
    # So many bytes before the end of each block a page begins; the last ones cut the end of a page.
    for block, before in enumerate([0, 1, 2, 3, 4, 5, 6, -1, -4], 1):
        for part in range(3):
            add_page(f"{block}.{part}", (block * BLOCK - before - size) // (3 - part))
    add_page("short", 300)
    add_page("long", 3 * BLOCK)
    add_page("last", 500)
    add("</mediawiki>\n")
    return "".join(pieces).encode()


@pytest.fixture(scope="module")
def pages(content):
    """Its pages, as another parser reads them."""
    root = ElementTree.fromstring(content.replace(b' xmlns="x"', b"").replace(b"no <pages>", b""))
    return [
        Page(page.find("title").text, 0, False, page.find("text").text)
        for page in root.iter("page")
    ]


@pytest.fixture(scope="module", params=["one stream", "streams", "not compressed"])
def blocky(request, tmp_path_factory, pages, content):
    """A dump of them: (path, pages, content)."""
    path = tmp_path_factory.mktemp("dump") / "dump.xml.bz2"
    if request.param == "streams":  # as in a multistream dump: each holds whole pages
        cuts = [0, content.find(b"<page>", 9 * BLOCK), content.find(b"<page><title>last")]
        parts = [content[a:b] for a, b in itertools.pairwise([*cuts, len(content)])]
        path.write_bytes(b"".join(bz2.compress(part, 1) for part in parts))
    else:
        is_plain = request.param == "not compressed"
        path.write_bytes(content if is_plain else bz2.compress(content, 1))
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(wikipedia_dump, "_XML_BLOCK_BYTES", BLOCK)
    yield path, pages, content
    monkeypatch.undo()


def test_borders_of_blocks_cut_tags(blocky):
    path, pages, content = blocky
    if path.read_bytes() != content:
        sizes = [len(block.data) for block in read_blocks(path)]
        assert sizes[:9] == [BLOCK] * 9
    cut = {content.rfind(b"<page>", 0, block * BLOCK + 6) - block * BLOCK for block in range(1, 8)}
    assert cut == {0, -1, -2, -3, -4, -5, -6}
    assert len(pages) == 30


SLOW = [pytest.param(shards, marks=pytest.mark.slow) for shards in (5, 13, 150)]


@pytest.mark.parametrize("shards", [1, 2, 3, 8, 40, *SLOW])
def test_ranges_give_each_page_once(blocky, shards):
    path, pages, _ = blocky
    size = path.stat().st_size
    borders = [size * shard // shards for shard in range(shards + 1)]
    read = [list(read_pages(path, a, b)) for a, b in itertools.pairwise(borders)]
    assert list(itertools.chain(*read)) == pages
    assert shards == 1 or sum(map(bool, read)) > 1


def test_ranges_that_end_at_each_block(blocky):
    path, pages, content = blocky
    if path.read_bytes() == content:
        starts = [block * BLOCK for block in range(1, 9)]
    else:
        starts = [block.bit // 8 + 1 for block in read_blocks(path)][:9]
    for border in starts:
        before = list(read_pages(path, 0, border))
        assert 0 < len(before) < len(pages)
        assert before + list(read_pages(path, border)) == pages


@pytest.mark.parametrize(
    "page, blocks_on, lost, cut",
    [
        # The tag of 4.0 is cut by the damaged block, and 5.0 begins in it.
        ("4.0", 0.5, {"4.0", "4.1", "4.2", "5.0"}, []),
        ("long", 1.5, {"long"}, ["page 'long'"]),
    ],
)
def test_a_damaged_block_loses_the_pages_in_it(tmp_path, blocky, page, blocks_on, lost, cut):
    path, pages, content = blocky
    raw = bytearray(path.read_bytes())
    if raw == content:
        pytest.skip("XML has no checksums")
    blocks = list(read_blocks(path))
    place = content.find(f"<title>{page}".encode()) + int(blocks_on * BLOCK)
    ends = itertools.accumulate(len(block.data) for block in blocks)
    block = next(block for block, end in zip(blocks, ends, strict=True) if end > place)
    raw[block.bit // 8 + 5000] ^= 1
    damaged_path = tmp_path / "damaged.xml.bz2"
    damaged_path.write_bytes(raw)

    with pytest.raises(UserError, match=r"damaged.xml.bz2: not a whole .* download it again"):
        list(read_pages(damaged_path))
    for borders in ([0, len(raw)], [0, *(block.bit // 8 for block in blocks), len(raw)]):
        damaged, read = [], []
        for start, stop in itertools.pairwise(borders):
            read += read_pages(damaged_path, start, stop, damaged)
        assert read == [page for page in pages if page.title not in lost]
        reasons = {entry["record"]: entry["reason"] for entry in damaged}
        assert len(damaged) == len(reasons)
        assert reasons.pop(block.place) == "it cannot be decompressed"
        assert reasons == dict.fromkeys(cut, f"is cut by the damaged {block.place}")
        assert {entry["file"] for entry in damaged} == {str(damaged_path)}


def test_dumps_that_are_cut_are_named(tmp_path, content):
    cut = tmp_path / "cut.xml.bz2"
    for end, record in (
        (content.find(b"<page><title>last"), "end of the file: </mediawiki> is missing"),
        (content.find(b"<title>last") + 40, "page 'last': the file ends in it"),
        (content.find(b"<title>last") + 3, "page: the file ends in it"),
    ):
        cut.write_bytes(bz2.compress(content[:end]))
        with pytest.raises(UserError, match=rf"cut.xml.bz2: not a whole .*\({record}\)"):
            list(read_pages(cut))


def test_files_that_are_cut_are_named(tmp_path, blocky):
    path, *_ = blocky
    cut = tmp_path / "cut.xml.bz2"
    cut.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(UserError, match="cut.xml.bz2: not a whole"):
        list(read_pages(cut))


def test_a_page_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "dump.xml"
    page = "<page><title>{}</title><ns>0</ns><text>{}</text></page>"
    path.write_text(
        "<mediawiki>"
        + page.format("One", "a & b")
        + page.format("Two &amp; a", "c")
        + page.format("Three &amp; b", "d").replace("<ns>0</ns>", "")
        + "</mediawiki>"
    )
    damaged = []
    assert list(read_pages(path, damaged=damaged)) == [Page("Two & a", 0, False, "c")]
    assert [entry["record"] for entry in damaged] == ["page 'One'", "page 'Three & b'"]
    with pytest.raises(UserError, match="page 'One': is no page of a dump: not well-formed"):
        list(read_pages(path))


@pytest.mark.parametrize(
    "content", [b"", bz2.compress(b""), bz2.compress(b"<feed><page/></feed>"), b"PK", b"\x1f\x8b"]
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other.bz2"
    with pytest.raises(UserError, match="other.bz2: cannot be read"):
        list(read_pages(path))
    path.write_bytes(content)
    with pytest.raises(UserError, match="other.bz2: is no MediaWiki dump, it begins with b'"):
        list(read_pages(path))
