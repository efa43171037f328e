import bz2
import io
import itertools
import random
import xml.etree.ElementTree as ElementTree

import pytest

from pipelines.prepare import wikipedia
from pipelines.prepare.wikipedia import Page, find_stream, read_pages

BLOCK = 100_000  # bytes of content in a stream, or read at a time where nothing is compressed


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
        add(begin + noise.randbytes(length).hex()[:length] + end)

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


def compressed(content, kind):
    """A dump of one stream, or of streams that tear pages."""
    cuts = [] if kind == "one stream" else list(range(BLOCK, len(content), BLOCK))
    return b"".join(bz2.compress(content[a:b], 1) for a, b in itertools.pairwise([0, *cuts, None]))


def stream_places(raw):
    """Where the streams of a file begin."""
    file, places = io.BytesIO(raw), [0]
    while (place := find_stream(file, places[-1] + 1, len(raw))) is not None:
        places.append(place)
    return places


KINDS = ["one stream", "torn streams", "not compressed"]


@pytest.fixture(scope="module", params=KINDS)
def dump(request, tmp_path_factory, pages, content):
    """A dump of them: (path, pages, content, kind)."""
    path = tmp_path_factory.mktemp("dump") / "dump.xml.bz2"
    is_plain = request.param == "not compressed"
    path.write_bytes(content if is_plain else compressed(content, request.param))
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(wikipedia, "_XML_BYTES", BLOCK)
    yield path, pages, content, request.param
    monkeypatch.undo()


def read_by_ranges(path, borders, damaged=None):
    return [list(read_pages(path, a, b, damaged)) for a, b in itertools.pairwise(borders)]


def even_borders(path, shards):
    size = path.stat().st_size
    return [size * shard // shards for shard in range(shards + 1)]


@pytest.mark.parametrize("shards", [1, 3, 8, 40])
def test_ranges_give_each_page_once(dump, shards):
    path, pages, _, kind = dump
    read = read_by_ranges(path, even_borders(path, shards))
    assert list(itertools.chain(*read)) == pages
    assert shards == 1 or kind == "one stream" or sum(map(bool, read)) > 1


def test_ranges_that_end_at_each_stream(dump):
    path, pages, content, kind = dump
    if kind == "not compressed":
        places = list(range(0, len(content), BLOCK))
    else:
        places = stream_places(path.read_bytes())
    for place in places[1:]:
        for border in (place, place + 1):
            before = list(read_pages(path, 0, border))
            assert before + list(read_pages(path, border)) == pages
    if kind != "one stream":
        parts = {len(list(read_pages(path, 0, place))) for place in places[1:]}
        assert len(parts) >= len(places) - 5


def damage(path, content, place, tmp_path):
    """Flips a bit of the stream that holds a place in the content; returns path and stream."""
    raw = path.read_bytes()
    starts = stream_places(raw)
    sizes = [len(bz2.BZ2Decompressor().decompress(raw[start:])) for start in starts]
    ends = itertools.accumulate(sizes)
    start = next(start for start, end in zip(starts, ends, strict=True) if end > place)
    damaged_path, raw = tmp_path / "damaged.xml.bz2", bytearray(raw)
    raw[start + 5000] ^= 1
    damaged_path.write_bytes(raw)
    assert sum(sizes) == len(content)
    return damaged_path, start


def test_a_damaged_stream_loses_the_pages_in_it(tmp_path, dump):
    path, pages, content, kind = dump
    if kind == "not compressed":
        pytest.skip("XML has no checksums")
    expected = {
        # The tag of 4.0 is cut by the damaged stream, and 5.0 begins in it.
        "torn streams": {"4.0", "4.1", "4.2", "5.0"},
        "one stream": {page.title for page in pages},
    }
    lost = expected[kind]
    place = content.find(b"<title>4.0") + BLOCK // 2
    damaged_path, start = damage(path, content, place, tmp_path)
    with pytest.raises(ValueError, match="damaged.xml.bz2: "):
        list(read_pages(damaged_path))
    starts = stream_places(damaged_path.read_bytes())
    size = damaged_path.stat().st_size
    for borders in ([0, size], [0, *starts[1:], size], even_borders(damaged_path, 7)):
        damaged = []
        read = list(itertools.chain(*read_by_ranges(damaged_path, borders, damaged)))
        assert read == [page for page in pages if page.title not in lost]
        reasons = {entry["record"]: entry["reason"] for entry in damaged}
        assert len(damaged) == len(reasons)
        assert reasons.pop(f"stream at byte {start}") == "Invalid data stream"
        assert reasons == {}
        assert {entry["file"] for entry in damaged} == {str(damaged_path)}


def test_a_page_that_runs_into_a_damaged_stream_is_lost_with_it(tmp_path, dump):
    path, pages, content, kind = dump
    if kind != "torn streams":
        pytest.skip("a page has one stream")
    place = content.find(b"<title>long") + 3 * BLOCK // 2
    damaged_path, start = damage(path, content, place, tmp_path)
    size = damaged_path.stat().st_size
    for borders in ([0, size], [0, start, size], even_borders(damaged_path, 7)):
        damaged = []
        read = list(itertools.chain(*read_by_ranges(damaged_path, borders, damaged)))
        assert read == [page for page in pages if page.title != "long"]
        assert [entry["record"] for entry in damaged] == [f"stream at byte {start}"]


def test_dumps_that_are_cut_are_named(tmp_path, content):
    cut = tmp_path / "cut.xml.bz2"
    for end, record in (
        (content.find(b"<page><title>last"), "end of the file: </mediawiki> is missing"),
        (content.find(b"<title>last") + 40, "page 'last': the file ends in it"),
        (content.find(b"<title>last") + 3, "page: the file ends in it"),
    ):
        cut.write_bytes(bz2.compress(content[:end]))
        with pytest.raises(ValueError, match=rf"cut.xml.bz2: not a whole .*\({record}\)"):
            list(read_pages(cut))


def test_a_page_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "dump.xml"
    page = "<page><title>{}</title><ns>0</ns><text>{}</text></page>"
    path.write_text(
        "<mediawiki>"
        + page.format("One", "a & b")
        + page.format("Two &amp; a", "c")
        + page.format("Three &amp; b", "d").replace("<ns>0</ns>", "")
        + page.format("Four", "e").replace("<ns>0</ns>", "<ns></ns>")
        + page.format("", "f")
        + "</mediawiki>"
    )
    damaged = []
    whole = [Page("Two & a", 0, False, "c"), Page("", 0, False, "f")]
    assert list(read_pages(path, damaged=damaged)) == whole
    assert [entry["record"] for entry in damaged] == [
        "page 'One'",
        "page 'Three & b'",
        "page 'Four'",
    ]
    with pytest.raises(ValueError, match="page 'One': is not a page of a dump: not well-formed"):
        list(read_pages(path))


@pytest.mark.parametrize(
    "content", [b"", bz2.compress(b""), bz2.compress(b"<feed><page/></feed>"), b"PK"]
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other.bz2"
    with pytest.raises(FileNotFoundError, match="other.bz2"):
        list(read_pages(path))
    path.write_bytes(content)
    with pytest.raises(ValueError, match="other.bz2: is not a MediaWiki dump"):
        list(read_pages(path))
