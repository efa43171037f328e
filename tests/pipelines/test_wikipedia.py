import bz2
import itertools
import json
import random
import re
import tracemalloc
import xml.etree.ElementTree as ElementTree

import pytest
import tensorflow as tf

from pipelines import command_line, wikipedia
from pipelines.command_line import UserError
from pipelines.text import wikipedia_dump
from pipelines.text.bzip2_blocks import read_blocks
from pipelines.text.documents import from_json
from pipelines.text.wikipedia_dump import Page, read_pages
from pipelines.wikipedia import Document, WikipediaJob, find_dump, read_documents

PROSE = "This is a sentence of prose that has words enough."


def test_only_articles_with_prose_are_read_in_order(write_dump):
    path = write_dump(
        [
            ("Zebra", 0, f"{PROSE}\n\n== More ==\n{PROSE}"),
            ("Talk:Zebra", 1, PROSE),
            ("Zebras", 0, PROSE),
            ("Mercury", 0, f"{PROSE}\n{{{{disambiguation|geo}}}}"),
            ("Mars", 0, f"{PROSE}\n{{{{Human name disambiguation}}}}"),
            ("Venus (disambiguation)", 0, PROSE),
            ("List of nothing", 0, "* one\n* two"),
            ("Apple & pear", 0, f"{PROSE} [[Mars]]{{{{Disambiguation needed|date=May 2016}}}}"),
        ],
        redirects=("Zebras",),
    )
    assert list(read_documents(path)) == [
        Document("Zebra", (PROSE, PROSE)),
        Document("Apple & pear", (f"{PROSE} Mars",)),
    ]


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


@pytest.fixture(scope="module", params=["one stream", "streams", "not compressed"])
def blocky(request, tmp_path_factory):
    """A dump in which the borders of blocks cut tags in every way: (path, pages, content)."""
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
    content = "".join(pieces).encode()

    path = tmp_path_factory.mktemp("dump") / "dump.xml.bz2"
    if request.param == "streams":  # as in a multistream dump: each holds whole pages
        cuts = [0, content.find(b"<page>", 9 * BLOCK), content.find(b"<page><title>last")]
        parts = [content[a:b] for a, b in itertools.pairwise([*cuts, len(content)])]
        path.write_bytes(b"".join(bz2.compress(part, 1) for part in parts))
    else:
        is_plain = request.param == "not compressed"
        path.write_bytes(content if is_plain else bz2.compress(content, 1))
    root = ElementTree.fromstring(content.replace(b' xmlns="x"', b"").replace(b"no <pages>", b""))
    pages = [
        Page(page.find("title").text, 0, False, page.find("text").text)
        for page in root.iter("page")
    ]
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


@pytest.mark.parametrize("shards", [1, 2, 3, 5, 8, 13, 40, 150])
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


def test_dumps_that_are_cut_are_named(tmp_path, blocky):
    path, _, content = blocky
    cut = tmp_path / "cut.xml.bz2"
    for end, record in (
        (content.find(b"<page><title>last"), "end of the file: </mediawiki> is missing"),
        (content.find(b"<title>last") + 40, "page 'last': the file ends in it"),
        (content.find(b"<title>last") + 3, "page: the file ends in it"),
    ):
        cut.write_bytes(bz2.compress(content[:end]))
        with pytest.raises(UserError, match=rf"cut.xml.bz2: not a whole .*\({record}\)"):
            list(read_pages(cut))
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
        list(read_documents(path))
    path.write_bytes(content)
    with pytest.raises(UserError, match="other.bz2: is no MediaWiki dump, it begins with b'"):
        list(read_documents(path))


@pytest.fixture(scope="module")
def prose_dump(tmp_path_factory):
    """A dump of two files with 60 articles in 8 blocks: ([path, path], documents)."""
    noise = random.Random(3)
    documents = [
        Document(
            f"Title {number}",
            tuple(
                f"Words {noise.randbytes(1000).hex(' ')} that make one long sentence {part}."
                for part in range(4)
            ),
        )
        for number in range(60)
    ]
    folder = tmp_path_factory.mktemp("prose")
    paths = []
    for file, part in (("dump2.bz2", documents[:45]), ("dump10.bz2", documents[45:])):
        pages = "".join(
            f"<page><title>{document.title}</title><ns>0</ns>"
            f"<text>{'&#10;&#10;'.join(document.paragraphs)}</text></page>"
            for document in part
        )
        (folder / file).write_bytes(bz2.compress(f"<mediawiki>{pages}</mediawiki>".encode(), 1))
        paths.append(str(folder / file))
    return paths, documents


def test_remote_dumps(prose_dump):
    """`ram://` is TensorFlow's other file system at hand: `open` does not know it."""
    paths, documents = prose_dump
    with tf.io.gfile.GFile("ram://dump.bz2", "wb") as file:
        file.write(open(paths[0], "rb").read())
    ((path, size),) = find_dump(["ram://dump.bz2"])
    pages = [*read_pages(path, 0, size // 2), *read_pages(path, size // 2)]
    assert [page.title for page in pages] == [document.title for document in documents[:45]]
    with pytest.raises(UserError, match="ram://no.bz2: cannot be read .No such file"):
        list(read_pages("ram://no.bz2"))


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 31])
def test_shards_give_the_documents_of_the_dump(prose_dump, shards):
    paths, documents = prose_dump
    job = WikipediaJob(find_dump([paths[0].replace("dump2", "dump*")]))  # 2 comes before 10
    assert [path for path, _ in job.files] == paths
    lines, totals = [], {}
    for shard in range(shards):

        class File:
            write = staticmethod(lines.append)

        counts, damaged = job.write_shard(shard, shards, File)
        assert damaged == []
        totals = {name: totals.get(name, 0) + count for name, count in counts.items()}
    assert [from_json(line) for line in lines] == documents
    words = sum(len(text.split()) for document in documents for text in document.paragraphs)
    assert totals == {"pages": 60, "documents": 60, "words": words}


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 11, 50])
def test_every_byte_of_a_dump_is_in_one_shard(shards):
    job = WikipediaJob((("a", 7), ("b", 1), ("c", 23)))
    places = [
        (path, place)
        for shard in range(shards)
        for path, start, stop in job._ranges(shard, shards)
        for place in range(start, stop)
    ]
    assert places == [(path, place) for path, size in job.files for place in range(size)]


def test_default_number_of_shards_depends_on_the_dump_alone():
    assert WikipediaJob((("a", 10),)).default_shards() == 1
    assert WikipediaJob((("a", 20_000_000_000), ("b", 2_000_000_000))).default_shards() == 688


def test_the_command_writes_json_lines(prose_dump, tmp_path, capfd):
    paths, documents = prose_dump
    output = str(tmp_path / "made" / "wiki")
    arguments = [f"--dump={','.join(paths)}", f"--output={output}", "--shards=3"]
    one_process = ["--", "--direct_num_workers=1"]
    assert command_line.run(wikipedia.main, [*arguments, *one_process]) == 0
    lines = [
        json.loads(line)
        for shard in range(3)
        for line in open(f"{output}-0000{shard}-of-00003", encoding="utf-8")
    ]
    assert [(line["title"], tuple(line["paragraphs"])) for line in lines] == [
        (document.title, document.paragraphs) for document in documents
    ]
    manifest = json.load(open(f"{output}.manifest.json"))
    assert manifest["kind"] == "documents"
    assert manifest["counts"]["documents"] == manifest["counts"]["records"] == 60
    assert [name for name, _ in manifest["settings"]["dump"]] == ["dump2.bz2", "dump10.bz2"]
    capfd.readouterr()
    assert command_line.run(wikipedia.main, [*arguments, *one_process]) == 0
    assert capfd.readouterr().err == f"{output}: is complete, nothing to do\n"


def test_the_command_leaves_out_damage_on_request(prose_dump, tmp_path, capfd):
    paths, documents = prose_dump
    raw = bytearray(open(paths[0], "rb").read())
    raw[len(raw) // 2] ^= 1
    path = tmp_path / "damaged.bz2"
    path.write_bytes(raw)
    arguments = [f"--dump={path}", f"--output={tmp_path}/wiki"]
    assert command_line.run(wikipedia.main, arguments) == 2
    error = capfd.readouterr().err
    assert re.search(
        r"^error: \S*damaged.bz2: block at byte \d+: .*; 2 damaged in all: mend the file, or leave"
        r" them out by --max_bad_records=2 .*\n\Z",
        error,
        re.MULTILINE,
    )
    assert command_line.run(wikipedia.main, [*arguments, "--max_bad_records=2"]) == 0
    assert "2 damaged inputs were left out" in capfd.readouterr().err
    manifest = json.load(open(tmp_path / "wiki.manifest.json"))
    assert len(manifest["damaged"]) == 2
    assert 35 < manifest["counts"]["documents"] < 45


@pytest.mark.parametrize(
    "arguments, error",
    [
        (["--output=x"], "--dump is missing"),
        (["--dump=x"], "--output is missing"),
        (["--dump=nowhere.bz2", "--output=x"], "--dump=nowhere.bz2: no such file"),
        (["--dump=x", "--output=x", "--shards=0"], "shards"),
        (["--dump=x", "--output=x", "--runner=DirectRunner"], "Unknown command line flag 'runner'"),
    ],
)
def test_bad_flags(arguments, error, capfd):
    assert command_line.run(wikipedia.main, arguments) == 2
    assert error in capfd.readouterr().err


def test_articles_of_the_real_dump(real_documents):
    assert len(real_documents) == 97
    assert {"Anarchism", "Alabama", "Albert Einstein", "Algorithm"} <= real_documents.keys()
    for title in ("AccessibleComputing", "Ada", "Animal (disambiguation)", "Aa River"):
        assert title not in real_documents  # a redirect, and disambiguation pages
    assert (
        real_documents["Anarchism"]
        .paragraphs[0]
        .startswith(
            "Anarchism is a political philosophy that advocates self-governed societies based on"
            " voluntary institutions. These are often described as stateless societies, although"
        )
    )


def test_no_markup_is_left_in_the_real_dump(real_documents):
    leftover = re.compile(
        r"''|\[\[|\]\]|\{\{|\}\}|\{\||\|\}|\|-|thumb\||<ref|</|&[a-z]+;|__|https?:|\(\s*\)"
        r"|\([,;]|  |\n|[\x00-\x08\xa0]|Category:|\[\[?File:|,[,;]|,\.\s| 's "
    )
    for document in real_documents.values():
        for paragraph in document.paragraphs:
            found = leftover.search(paragraph)
            assert not found, (document.title, found, paragraph)


# Read off the source of the pages by hand.
@pytest.mark.parametrize(
    "title, kind, text",
    [
        ("Alabama", "infobox", "MedianHouseholdIncome"),
        ("Alabama", "infobox", "Star blue quartz"),
        ("Alabama", "caption", "The developing skyline of Birmingham in 1915"),
        ("Alabama", "comment", "State game bird"),
        ("Alabama", "heading", "Pre-European settlement"),
        ("Alabama", "list item", "Star Clan of"),
        ("Alabama", "table", "Percentage of population"),
        ("Alabama", "table cell", "French (incl. Patois, Cajun)"),
        ("Alabama", "reference", "Elevations and Distances in the United States"),
        ("Alabama", "hatnote", "Alabama (disambiguation)"),
        ("Alabama", "category", "Category:States of the United States"),
        ("Albert Einstein", "infobox", "Karl-Ferdinands-Universität"),
        ("Albert Einstein", "table cell that is a sentence", "Resolved an unsolved puzzle by"),
        ("Albert Einstein", "reference", "Longman Pronunciation Dictionary"),
        ("Albert Einstein", "caption", "Einstein at the age of 3 in 1882"),
        ("Albert Einstein", "text for a picture", "wearing a white collar and large bow"),
        ("Albert Einstein", "heading", "Early life and education"),
        ("Apollo 11", "gallery", "Spectators camp out to watch the launch"),
        ("Apollo 11", "infobox", "descends a ladder to become the first human to step"),
        ("Algeria", "infobox", "By the people and for the people"),
        ("Algeria", "item of the bibliography", "Translated from French and edited by Michae"),
        ("Alkane", "table caption", "Comparison of nomenclatures for three isomers"),
        ("Alkane", "list item", "wherein the carbon atoms are joined in a snake-like structure"),
        ("Andre Agassi", "table heading", "Win–Loss"),
        ("Andre Agassi", "list item", "In 1992, Agassi was named the"),
    ],
)
def test_what_is_dropped_from_a_real_article(title, kind, text, real_pages, real_documents):
    assert text in real_pages[title].wikitext
    assert not any(text in paragraph for paragraph in real_documents[title].paragraphs)


@pytest.fixture(scope="module")
def real_pages(dump_path):
    return {page.title: page for page in read_pages(dump_path)}


@pytest.mark.parametrize(
    "title, sentence",
    [
        (
            "Alabama",
            "At 1300 mi, Alabama has one of the longest navigable inland waterways in the nation.",
        ),
        (
            "Alabama",
            "It is bordered by Tennessee to the north, Georgia to the east, Florida and the Gulf of"
            " Mexico to the south, and Mississippi to the west.",
        ),
        (
            "Alkane",
            "Cycloalkanes are named as per their acyclic counterparts with respect to the number of"
            " carbon atoms, e.g., cyclopentane (C5H10) is a cycloalkane with 5 carbon atoms",
        ),
        ("Alkane", "They are hydrocarbons just like alkanes, but contain one or more rings."),
        (
            "Andre Agassi",
            "In 1998, Agassi began a rigorous conditioning program and worked his way back up the"
            " rankings by playing in Challenger Series tournaments, a circuit for pro players"
            " ranked outside the world's top 50.",
        ),
        (
            "Apollo 11",
            "After the crew of Apollo 10 named their spacecraft Charlie Brown and Snoopy, assistant"
            " manager for public",
        ),
        ("Apollo 11", "24 km from the recovery ship, USS Hornet."),
        ("Albert Einstein", "14 March 1879 – 18 April 1955) was a German-born theoretical"),
    ],
)
def test_prose_of_a_real_article_is_intact(title, sentence, real_documents):
    assert any(sentence in paragraph for paragraph in real_documents[title].paragraphs)


def test_a_real_article_keeps_its_length(real_documents):
    assert sum(len(text.split()) for text in real_documents["Alabama"].paragraphs) > 8000
