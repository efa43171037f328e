import bz2
import json
import random
import re
from xml.sax.saxutils import escape

import pytest

from pipelines import command_line, wikipedia
from pipelines.files import find_files
from pipelines.prepare.wikipedia import WikipediaJob, read_documents
from pipelines.text.documents import Document, from_json

PROSE = "This is a sentence of prose that has words enough."


def page(title, text, namespace=0, more=""):
    text = f"<revision><text>{escape(text)}</text></revision>"
    return f"<page><title>{escape(title)}</title><ns>{namespace}</ns>{more}{text}</page>"


def dump(path, *streams):
    """A multistream dump of lists of pages; returns its path."""
    streams = ["<mediawiki>", *map("".join, streams), "</mediawiki>"]
    path.write_bytes(b"".join(bz2.compress(stream.encode()) for stream in streams))
    return str(path)


def test_only_articles_with_prose_are_read_in_order(tmp_path):
    pages = [
        page("Zebra", f"{PROSE}\n\n== More ==\n{PROSE}"),
        page("Talk:Zebra", PROSE, namespace=1),
        page("Zebras", PROSE, more='<redirect title="x" />'),
        page("Mercury", f"{PROSE}\n{{{{disambiguation|geo}}}}"),
        page("Venus (disambiguation)", PROSE),
        page("Space", f"{{{{{' ' * 1_000_000}no name}}}}"),  # takes time in proportion
        page("Apple & pear", f"{PROSE} [[Mars]]{{{{Disambiguation needed|date=May 2016}}}}"),
    ]
    assert list(read_documents(dump(tmp_path / "x.bz2", pages))) == [
        Document("Zebra", (PROSE, PROSE)),
        Document("Apple & pear", (f"{PROSE} Mars",)),
    ]


@pytest.fixture(scope="module")
def prose_dump(tmp_path_factory):
    """A multistream dump of two files with 60 articles: ([path, path], documents)."""
    noise = random.Random(3)
    folder, documents, streams = tmp_path_factory.mktemp("prose"), [], []
    for stream in range(12):
        words = [noise.randbytes(3000).hex(" ") for _ in range(5)]
        texts = [f"Words {some} that make one long sentence." for some in words]
        documents += [Document(f"{stream}.{n}", (text,)) for n, text in enumerate(texts)]
        streams.append([page(d.title, d.paragraphs[0]) for d in documents[-5:]])
    paths = dump(folder / "dump2.bz2", *streams[:9]), dump(folder / "dump10.bz2", *streams[9:])
    return paths, documents


@pytest.mark.parametrize("shards", [1, 31])
def test_shards_give_the_documents_of_the_dump(prose_dump, shards):
    paths, documents = prose_dump
    files = find_files(paths[0].replace("dump2", "dump*"))
    assert tuple(files) == paths  # 2 comes before 10
    job, lines, totals = WikipediaJob(tuple(files.items())), [], {}

    class File:
        write = staticmethod(lines.append)

    for shard in range(shards):
        counts, damaged = job.write_shard(shard, shards, File)
        assert damaged == []
        totals = {name: totals.get(name, 0) + count for name, count in counts.items()}
    assert [from_json(line) for line in lines] == documents
    assert totals == {"pages": 60, "documents": 60, "words": 60 * (3000 + 6)}


def test_the_command_leaves_out_damage_on_request(prose_dump, tmp_path, capfd):
    raw = bytearray(open(prose_dump[0][0], "rb").read())
    raw[len(raw) // 2] ^= 1
    (tmp_path / "damaged.bz2").write_bytes(raw)
    arguments = [f"--dump={tmp_path}/damaged.bz2", f"--output={tmp_path}/wiki"]
    assert command_line.run(wikipedia.main, arguments) == 2
    error = capfd.readouterr().err
    assert re.search(r"^error: \S*damaged.bz2: stream at byte \d+: .*\n\Z", error, re.MULTILINE)
    assert command_line.run(wikipedia.main, [*arguments, "--skip_damaged=1"]) == 0
    manifest = json.loads((tmp_path / "wiki.manifest.json").read_text())
    assert len(manifest["damaged"]) == 1 and manifest["counts"]["documents"] == 40
