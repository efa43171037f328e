"""`python -m benchmarks`, with jobs that take no time."""

import json
import subprocess
import sys

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.speed_table import Row

GOOD = Row("good", 1.0, peer=2.0, ratio=2.0, at_least=1.5)
MISSED = Row("missed", 1.0, peer=1.2, ratio=1.2, at_least=1.5)
SLOWER = Row("slower", 3.0, peer=1.0, ratio=0.7, at_least=1.5)
FAILED = Row("failed", failed="ValueError: no")


@pytest.mark.parametrize(
    ("row", "status", "quick_status"),
    [(GOOD, 0, 0), (MISSED, 1, 0), (SLOWER, 1, 1), (FAILED, 1, 1)],
)
def test_a_table_and_a_status(monkeypatch, capsys, tmp_path, row, status, quick_status):
    monkeypatch.setattr(benchmarks, "measured", lambda name, quick: [row])
    for flags, expected in ((["--quick"], quick_status), ([], status)):
        argv = ["benchmarks", "--only=start", f"--output={tmp_path / 'rows'}", *flags]
        monkeypatch.setattr(sys, "argv", argv)
        assert benchmarks.main() == expected
        assert f"| {row.what} " in capsys.readouterr().out
        assert Row(**json.loads((tmp_path / "rows").read_text())) == row


def test_a_job_that_is_killed_has_a_row(monkeypatch):
    killed = subprocess.CompletedProcess("", -9, "", "")
    monkeypatch.setattr(subprocess, "run", lambda command, **_: killed)
    [row] = benchmarks.measured("images", quick=True)
    assert row == Row("images", failed="killed by signal 9; no output")
