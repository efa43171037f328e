"""Fixtures that several tests of the data share: a dump writer, and the real sample data."""

import bz2
from xml.sax.saxutils import escape

import pytest

from pipelines import package_data
from pipelines.prepare import sample, wikipedia
from pipelines.text import documents


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """Keeps the tests away from the user's prepared data."""
    monkeypatch.setenv("KERAS_VITBERT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def write_dump(tmp_path):
    """Writes a small dump: `write_dump([(title, namespace, wikitext), ...]) -> path`."""

    def write(pages, redirects=()):
        path = tmp_path / "pages-articles.xml.bz2"
        body = "".join(
            f"<page><title>{escape(title)}</title><ns>{namespace}</ns>"
            + ('<redirect title="x" />' if title in redirects else "")
            + f"<revision><text>{escape(text)}</text></revision></page>"
            for title, namespace, text in pages
        )
        xmlns = "http://www.mediawiki.org/xml/export-0.10/"
        path.write_bytes(bz2.compress(f'<mediawiki xmlns="{xmlns}">{body}</mediawiki>'.encode()))
        return str(path)

    return write


@pytest.fixture(scope="session")
def dump_path():
    """The Wikipedia extract inside gensim."""
    return package_data.find_package_file(*sample.WIKIPEDIA_FILE)


@pytest.fixture(scope="session")
def real_documents(dump_path, made_once):
    """The articles of the extract: dict of title to `Document`."""

    def make(path):
        lines = map(documents.to_json, wikipedia.read_documents(dump_path))
        path.write_bytes(b"\n".join(lines))

    lines = made_once("real_documents", make).read_bytes().split(b"\n")
    return {document.title: document for document in map(documents.from_json, lines)}


@pytest.fixture(scope="session")
def paragraphs(real_documents):
    """The paragraphs of one article."""
    return list(real_documents["Alabama"].paragraphs)


@pytest.fixture(scope="session")
def sample_settings():
    """Smaller than the sample's own, which take longer."""
    return {"vocabulary_size": 1000, "duplication": 1}


@pytest.fixture(scope="session")
def prepared(made_once, sample_settings, dump_path, real_documents):
    """The whole sample, prepared once; its articles have been read already."""

    def read_documents(path):
        assert path == dump_path
        return iter(real_documents.values())

    def prepare(folder):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(wikipedia, "read_documents", read_documents)
            return sample.prepare(str(folder), **sample_settings)

    return prepare(made_once("sample", prepare))
