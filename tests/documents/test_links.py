"""Links between the documents lead somewhere, also those to classes and functions."""

import re

import pytest

from tests.documents.markdown import DOCUMENTS, ROOT, Document


def dead_links(document):
    """What is wrong with the links of a document, a line each; those to the web are left alone."""
    for link in document.links():
        if re.match(r"https?:", link.more):
            continue
        path, _, anchor = link.more.partition("#")
        target = (document.path.parent / path).resolve() if path else document.path
        if not target.exists():
            yield f"{link.where}: there is no {path}"
        elif anchor and anchor not in Document(target).anchors():
            yield f"{link.where}: {target.name} has no heading #{anchor}"
        elif target.suffix == ".py":
            for name in re.findall(r"`([A-Za-z_]\w*(?:\.\w+)?)`", link.text):
                if not defines(target, name) and not (ROOT / name.replace(".", "/")).exists():
                    yield f"{link.where}: {path} defines no {name}"


def defines(path, name):
    """Whether it defines `NAME`, `MODULE.NAME` or `CLASS.METHOD`, or is called so."""
    if name in (path.stem, path.name, f"{path.parent.name}.{path.stem}"):
        return True
    last = name.rpartition(".")[2]
    return re.search(rf"^ *(def|class) {last}\b|^{last} ?[:=]", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.path.name)
def test_links(document):
    assert not list(dead_links(document))


def test_every_page_can_be_reached_from_the_readme():
    seen, ahead = set(), [ROOT / "README.md"]
    while ahead:
        document = Document(ahead.pop())
        seen.add(document.path)
        for link in document.links():
            path = (document.path.parent / link.more.partition("#")[0]).resolve()
            if path.suffix == ".md" and path.exists() and path not in {*seen, *ahead}:
                ahead.append(path)
    assert {document.path for document in DOCUMENTS} <= seen


def test_dead_links_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.documents.markdown.ROOT", tmp_path)
    (tmp_path / "code.py").write_text("class Present:\n    def method(self):\n        pass\n")
    good = "[a](#a-page-of-its-own) [b](code.py) [`Present.method`](code.py)"
    bad = "[a](missing.md) [a](page.md#there) [`Present.other`](code.py)"
    (tmp_path / "page.md").write_text(f"# A `page`, of its own\n\n{good} {bad}\n")
    assert list(dead_links(Document(tmp_path / "page.md"))) == [
        "page.md:3: there is no missing.md",
        "page.md:3: page.md has no heading #there",
        "page.md:3: code.py defines no Present.other",
    ]
