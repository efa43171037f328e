import bz2
import json
import random
import re

import pytest

from pipelines import command_line, wikipedia
from pipelines.files import find_files
from pipelines.prepare import wikipedia as prepared
from pipelines.prepare.wikipedia import Page, WikipediaJob, read_documents
from pipelines.text.documents import Document, from_json

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


@pytest.mark.parametrize("shards", [1, 3, 31])
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
