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
    pieces = ['<mediawiki xmlns="x"><siteinfo>no <pages> here</siteinfo>\n']

    def add_page(name, length):
        begin, end = f"<page><title>{name}</title><ns>0</ns><text>", "</text></page>\n"
        length -= len(begin) + len(end)
        pieces.append(begin + noise.randbytes(length).hex()[:length] + end)

    # So many bytes before the end of each block a page begins; the last ones cut the end of a page.
    for block, before in enumerate([0, 1, 2, 3, 4, 5, 6, -1, -4], 1):
        for part in range(3):
            size = sum(map(len, pieces))
            add_page(f"{block}.{part}", (block * BLOCK - before - size) // (3 - part))
    for name, length in (("short", 300), ("long", 3 * BLOCK), ("last", 500)):
        add_page(name, length)
    return "".join([*pieces, "</mediawiki>\n"]).encode()


@pytest.fixture(scope="module")
def pages(content):
    """Its pages, as another parser reads them."""
    root = ElementTree.fromstring(content.replace(b' xmlns="x"', b"").replace(b"no <pages>", b""))
    return [
        Page(page.find("title").text, 0, False, page.find("text").text)
        for page in root.iter("page")
    ]


def compressed(content, kind):
    """A dump of one stream, of streams that tear pages, or not compressed."""
    if kind == "not compressed":
        return content
    cuts = [] if kind == "one stream" else list(range(BLOCK, len(content), BLOCK))
    return b"".join(bz2.compress(content[a:b], 1) for a, b in itertools.pairwise([0, *cuts, None]))


def stream_places(raw):
    """Where the streams of a file begin."""
    file, places = io.BytesIO(raw), [0]
    while (place := find_stream(file, places[-1] + 1, len(raw))) is not None:
        places.append(place)
    return places


@pytest.fixture(scope="module", params=["one stream", "torn streams", "not compressed"])
def dump(request, tmp_path_factory, content):
    """A dump of them: (path, kind)."""
    path = tmp_path_factory.mktemp("dump") / "dump.xml.bz2"
    path.write_bytes(compressed(content, request.param))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wikipedia, "_XML_BYTES", BLOCK)
        yield path, request.param


def read_by_ranges(path, borders, damaged=None):
    return [list(read_pages(path, a, b, damaged)) for a, b in itertools.pairwise(borders)]


def even_borders(path, shards):
    size = path.stat().st_size
    return [size * shard // shards for shard in range(shards + 1)]


@pytest.mark.parametrize("shards", [1, 3, 40])
def test_ranges_give_each_page_once(dump, pages, shards):
    path, kind = dump
    read = read_by_ranges(path, even_borders(path, shards))
    assert list(itertools.chain(*read)) == pages
    assert shards == 1 or kind == "one stream" or sum(map(bool, read)) > 1


def test_ranges_that_end_at_each_stream(dump, pages, content):
    path, kind = dump
    is_plain = kind == "not compressed"
    places = range(0, len(content), BLOCK) if is_plain else stream_places(path.read_bytes())
    for place in places[1:]:
        for border in (place, place + 1):
            before = list(read_pages(path, 0, border))
            assert before + list(read_pages(path, border)) == pages


# (kind of dump, what is damaged, the pages that are lost)
DAMAGE = [
    # The tag of 4.0 is cut by the damaged stream, and 5.0 begins in it.
    ("torn streams", "4.0", {"4.0", "4.1", "4.2", "5.0"}),
    ("torn streams", "long", {"long"}),  # it runs into the damaged stream
    ("one stream", "4.0", None),  # all of them
]


@pytest.mark.parametrize(("kind", "title", "lost"), DAMAGE)
def test_a_damaged_stream_loses_the_pages_in_it(tmp_path, pages, content, kind, title, lost):
    path, raw = tmp_path / "damaged.xml.bz2", bytearray(compressed(content, kind))
    starts = stream_places(raw)
    place = content.find(f"<title>{title}".encode()) + (3 if title == "long" else 1) * BLOCK // 2
    start = starts[place // BLOCK] if kind == "torn streams" else 0
    raw[start + 5000] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="damaged.xml.bz2: "):
        list(read_pages(path))
    for borders in ([0, len(raw)], [*starts, len(raw)], even_borders(path, 7)):
        damaged = []
        read = list(itertools.chain(*read_by_ranges(path, borders, damaged)))
        assert read == [page for page in pages if lost and page.title not in lost]
        found = [(entry["file"], entry["record"]) for entry in damaged]
        assert found == [(str(path), f"stream at byte {start}")]


def test_dumps_that_are_cut_are_named(tmp_path, content):
    cut = tmp_path / "cut.xml.bz2"
    for end, record in (
        (content.find(b"<page><title>last"), "end of the file: </mediawiki> is missing"),
        (content.find(b"<title>last") + 40, "page 'last': the file ends in it"),
    ):
        cut.write_bytes(bz2.compress(content[:end]))
        with pytest.raises(ValueError, match=rf"cut.xml.bz2: not a whole .*\({record}\)"):
            list(read_pages(cut))


def test_a_page_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "dump.xml"
    page = "<page><title>{}</title>{}<text>{}</text></page>".format
    pages = page("One", "<ns>0</ns>", "a & b"), page("Two &amp; a", "<ns>0</ns>", "c")
    pages += page("Three &amp; b", "", "d"), page("Four", "<ns></ns>", "e")
    path.write_text(f"<mediawiki>{''.join(pages)}</mediawiki>")
    damaged = []
    assert list(read_pages(path, damaged=damaged)) == [Page("Two & a", 0, False, "c")]
    places = ["page 'One'", "page 'Three & b'", "page 'Four'"]
    assert [entry["record"] for entry in damaged] == places
    with pytest.raises(ValueError, match="page 'One': is not a page of a dump: not well-formed"):
        list(read_pages(path))


@pytest.mark.parametrize(
    "content", [b"", bz2.compress(b""), bz2.compress(b"<feed><page/></feed>"), b"PK"]
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other.bz2"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="other.bz2: is not a MediaWiki dump"):
        list(read_pages(path))
