"""The text pipeline's tokenizer gives the ids of BERT's reference, but for what is listed.

So that texts mean the same to a BERT from elsewhere. `fixtures/tokens.json` is made by
`make_tokenizer_fixture.py`.
"""

import json
import pathlib

import pytest

from pipelines.text.documents import Document
from pipelines.text.tokenization import tokenize_documents

FIXTURE = pathlib.Path(__file__).parent / "fixtures" / "tokens.json"


@pytest.fixture(scope="module")
def fixture():
    return json.loads(FIXTURE.read_text("utf-8"))


@pytest.fixture(scope="module")
def ids_of(fixture):
    """`ids_of(line) -> list of int`, by the pipeline."""

    def ids_of(line):
        document = Document("", (line,), True)
        return tokenize_documents([document], fixture["vocabulary"]).tokens.tolist()

    return ids_of


def test_the_same_ids(fixture, ids_of):
    assert len(fixture["lines"]) > 250
    assert [line for line, ids in fixture["lines"] if ids_of(line) != ids] == []


def test_known_differences(fixture, ids_of):
    same = [line for line, ids in fixture["different"] if ids_of(line) == ids]
    assert same == []  # or the list in `make_tokenizer_fixture.py` is out of date
    tokens = fixture["vocabulary"]

    def words(line):
        return " ".join(tokens[number] for number in ids_of(line))

    assert words("ς") == "σ" and words("ß") == "s ##s" and words("…") == ". . ."
    assert words("½") == "1 ##⁄ ##2" and words("²") == "2" and words("ﬁ") == "f ##i"
    assert words("c\x81d") == "c d"
    assert words("[MASK]") == "[ m ##a ##s ##k ]"
