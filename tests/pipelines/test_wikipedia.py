import bz2
import json
import random
import re

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import command_line, wikipedia
from pipelines.files import find_files
from pipelines.prepare import wikipedia as prepared
from pipelines.prepare.wikipedia import Page, WikipediaJob, read_documents, read_pages
from pipelines.text.documents import Document, from_json
from tests.said import without_status

PROSE = "This is a sentence of prose that has words enough."


def files_of(patterns):
    return tuple(find_files(patterns).items())


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


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.sampled_from(["{{", " ", "\n", "a", "-", "disambig", "dab", "|", "}}"])).map(
        "".join
    )
)
def test_templates_of_disambiguation(text):
    """As a pattern that gives spaces back says."""
    simple = re.compile(r"\{\{\s*(?:[\w -]*disambig(?:uation)?|dab)\s*[|}]", re.IGNORECASE)
    assert bool(prepared._DISAMBIGUATION.search(text)) == bool(simple.search(text))


def test_spaces_in_a_template_take_time_in_proportion():
    """Otherwise these take an hour."""
    page = Page("Zebra", 0, False, f"{PROSE} {{{{{' ' * 1_000_000}no name}}}}")
    assert prepared.to_document(page) == Document("Zebra", (PROSE,))


@pytest.fixture(scope="module")
def prose_dump(tmp_path_factory):
    """A multistream dump of two files with 60 articles: ([path, path], documents)."""
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
        pages = [
            f"<page><title>{document.title}</title><ns>0</ns>"
            f"<text>{'&#10;&#10;'.join(document.paragraphs)}</text></page>"
            for document in part
        ]
        groups = [pages[start : start + 5] for start in range(0, len(pages), 5)]
        streams = ["<mediawiki>", *map("".join, groups), "</mediawiki>"]
        (folder / file).write_bytes(b"".join(bz2.compress(text.encode()) for text in streams))
        paths.append(str(folder / file))
    return paths, documents


def test_remote_dumps(prose_dump):
    """`ram://` is TensorFlow's other file system at hand: `open` does not know it."""
    paths, documents = prose_dump
    with tf.io.gfile.GFile("ram://dump.bz2", "wb") as file:
        file.write(open(paths[0], "rb").read())
    ((path, size),) = files_of("ram://dump.bz2")
    pages = [*read_pages(path, 0, size // 2), *read_pages(path, size // 2)]
    assert [page.title for page in pages] == [document.title for document in documents[:45]]
    with pytest.raises(tf.errors.NotFoundError):
        list(read_pages("ram://no.bz2"))


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 31])
def test_shards_give_the_documents_of_the_dump(prose_dump, shards):
    paths, documents = prose_dump
    job = WikipediaJob(files_of(paths[0].replace("dump2", "dump*")))  # 2 comes before 10
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
    assert WikipediaJob((("a", 20_000_000),)).size() == (1, 20_000_000, "bytes of the dump")
    assert WikipediaJob((("a", 20_000_000_000), ("b", 2_000_000_000))).size()[0] == 688


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
    assert re.search(r"^error: \S*damaged.bz2: stream at byte \d+: .*\n\Z", error, re.MULTILINE)
    assert command_line.run(wikipedia.main, [*arguments, "--skip_damaged=1"]) == 0
    assert "1 damaged inputs left out" in capfd.readouterr().err
    manifest = json.load(open(tmp_path / "wiki.manifest.json"))
    assert len(manifest["damaged"]) == 1
    assert manifest["counts"]["documents"] == 40


def test_a_large_single_stream_is_told(prose_dump, tmp_path, capfd, monkeypatch):
    paths, documents = prose_dump
    path = tmp_path / "single.bz2"
    path.write_bytes(bz2.compress(bz2.decompress(open(paths[0], "rb").read()), 1))
    monkeypatch.setattr(prepared, "_SHARD_BYTES", 100_000)
    arguments = [f"--dump={path},{paths[1]}", f"--output={tmp_path}/wiki", "--shards=3"]
    assert command_line.run(wikipedia.main, [*arguments, "--", "--direct_num_workers=1"]) == 0
    first, *_ = without_status(capfd.readouterr().err)
    assert first.startswith(f"{path}: one process reads each large bzip2 stream")
    lines = [open(f"{tmp_path}/wiki-0000{shard}-of-00003", "rb").readlines() for shard in range(3)]
    assert [from_json(line) for part in lines for line in part] == documents


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
