"""Links between the documents lead somewhere, also those to classes and functions."""

import ast
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
            names = re.findall(r"`([A-Za-z_]\w*(?:\.\w+)?)`", link.text)
            for name in set(names) - names_in(target):
                if not (ROOT / name.replace(".", "/")).exists():
                    yield f"{link.where}: {path} defines no {name}"


def names_in(path):
    """What a module defines, as `NAME`, `MODULE.NAME` or `CLASS.METHOD`; and what it is called."""
    found = {path.stem, path.name, f"{path.parent.name}.{path.stem}"}
    definitions = ast.FunctionDef | ast.ClassDef
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        if isinstance(node, definitions):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = [part.name for part in node.body if isinstance(part, definitions)]
            found |= {f"{node.name}.{name}" for name in methods}
    return found | {f"{path.stem}.{name}" for name in found if "." not in name}


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


@pytest.mark.parametrize(
    ("link", "complaint"),
    [
        ("[a](missing.md)", "page.md:3: there is no missing.md"),
        ("[a](page.md#there)", "page.md:3: page.md has no heading #there"),
        ("[`Present.other`](code.py)", "page.md:3: code.py defines no Present.other"),
        ("[a](#a-page-of-its-own) [b](code.py) [`Present.method`](code.py)", None),
    ],
)
def test_dead_links_are_found(link, complaint, tmp_path, monkeypatch):
    monkeypatch.setattr("tests.documents.markdown.ROOT", tmp_path)
    (tmp_path / "code.py").write_text("class Present:\n    def method(self):\n        pass\n")
    (tmp_path / "page.md").write_text(f"# A `page`, of its own\n\n{link}\n")
    assert list(dead_links(Document(tmp_path / "page.md"))) == ([complaint] if complaint else [])
