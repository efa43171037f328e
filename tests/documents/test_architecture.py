"""The drawing of the packages in docs/architecture.md is what the modules import."""

import ast
import re

from tests.documents.markdown import ROOT, Document

ARCHITECTURE = Document(ROOT / "docs" / "architecture.md")


def node_of(module):
    """The box that a module is in; None where it is in none, such as `keras_vitbert` itself."""
    parts = module.split(".")
    if parts[0] in ("pipelines", "tpu"):
        return parts[0]
    return parts[1] if parts[0] == "keras_vitbert" and len(parts) > 1 else None


def nodes_of(tree):
    """All nodes, but those below `if TYPE_CHECKING:`, which nothing runs."""
    yield tree
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield from nodes_of(node)


def imports():
    """The arrows that there are: set of (box, box)."""
    found = set()
    for package in ("keras_vitbert", "pipelines", "tpu"):
        for path in (ROOT / package).rglob("*.py"):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            module = module.removesuffix(".__init__")
            for node in nodes_of(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom):
                    targets = [f"{node.module}.{alias.name}" for alias in node.names]
                elif isinstance(node, ast.Import):
                    targets = [alias.name for alias in node.names]
                else:
                    continue
                found |= {(node_of(module), node_of(target)) for target in targets}
    return {(a, b) for a, b in found if a and b and a != b}


def reachable(arrows):
    """All pairs of boxes that arrows lead from and to."""
    found = set(arrows)
    while True:
        more = {(a, d) for a, b in found for c, d in arrows if b == c} - found
        if not more:
            return found
        found |= more


def test_the_drawing_is_what_is_imported():
    [drawing] = ARCHITECTURE.blocks("mermaid")
    drawn = set(re.findall(r"^ *(\w+)(?:\[.*?\])? --> (\w+)", drawing.text, re.MULTILINE))
    real = imports()
    assert drawn <= real, f"drawn, and not imported: {drawn - real}"
    assert real <= reachable(drawn), f"imported, and not drawn: {real - reachable(drawn)}"
    for arrow in drawn:
        others = reachable(drawn - {arrow})
        assert arrow not in others, f"follows from other arrows: {arrow}"
