"""Fixtures that several tests of the data share: the real sample data."""

import pytest

from pipelines import package_data
from pipelines.prepare import sample, wikipedia
from pipelines.text import documents


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """Keeps the tests away from the user's prepared data."""
    monkeypatch.setenv("KERAS_VITBERT_CACHE", str(tmp_path / "cache"))


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
