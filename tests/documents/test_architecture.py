"""The drawing of the packages in docs/architecture.md is what the modules import."""

import re

import grimp

from tests.documents.markdown import ROOT, Document

ARCHITECTURE = Document(ROOT / "docs" / "architecture.md")


def node_of(module):
    """The box that a module is in; None where it is in none, such as `keras_vitbert` itself."""
    parts = module.split(".")
    if parts[0] in ("pipelines", "tpu"):
        return parts[0]
    return parts[1] if parts[0] == "keras_vitbert" and len(parts) > 1 else None


def imports():
    """The arrows that there are, but those below `if TYPE_CHECKING:`: set of (box, box)."""
    packages = "keras_vitbert", "pipelines", "tpu"
    graph = grimp.build_graph(*packages, exclude_type_checking_imports=True, cache_dir=None)
    found = {
        (node_of(module), node_of(target))
        for module in graph.modules
        for target in graph.find_modules_directly_imported_by(module)
    }
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
