"""Tables that a command prints from committed results are what it prints."""

import sys

from benchmarks import slices
from tests.documents.markdown import ROOT


def test_slices(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["slices", "--known"])
    slices.main()
    printed = capsys.readouterr().out
    # Encoders, slices, engines; three rows have not been compiled, as docs/engines.md says.
    assert printed.count("\n") == 2 + 2 * 4 * 3 - 3
    assert printed in (ROOT / "docs" / "engines.md").read_text()
