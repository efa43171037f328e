"""Tables that a command prints from committed results are what it prints."""

import sys

from benchmarks import slices
from tests.documents.markdown import ROOT


def test_slices(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["slices", "--known"])
    slices.main()
    printed = capsys.readouterr().out
    assert printed.count("\n") == 2 + 2 * 3  # two slices, three backends
    assert printed in (ROOT / "docs" / "backends.md").read_text()
