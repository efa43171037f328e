"""`python -m benchmarks`, with jobs that take no time, and as a whole at tiny sizes."""

import json
import re
import subprocess
import sys

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks.speed_table import Row

GOOD = Row("good", 1.0, peer=2.0, ratio=2.0, at_least=1.5)
MISSED = Row("missed", 1.0, peer=1.2, ratio=1.2, at_least=1.5)
FAILED = Row("failed", failed="ValueError: no")


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    return benchmarks.main()


@pytest.fixture
def jobs(monkeypatch):
    """Jobs whose rows are known, in place of processes."""
    rows = {"joint_small": [GOOD], "joint_large": [MISSED], "start": [FAILED]}
    monkeypatch.setattr(benchmarks, "JOBS", dict.fromkeys(rows))
    monkeypatch.setattr(benchmarks, "measured", lambda name, quick: rows[name])


def test_one_table_of_all_jobs(jobs, monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, f"--output={tmp_path / 'rows'}") == 1
    printed = capsys.readouterr().out
    places = [printed.index(row.what) for row in (GOOD, MISSED, FAILED)]
    assert places == sorted(places)
    stored = [Row(**json.loads(line)) for line in (tmp_path / "rows").read_text().splitlines()]
    assert stored == [GOOD, MISSED, FAILED]


def test_status(jobs, monkeypatch):
    assert run(monkeypatch, "--only=joint_small") == 0
    assert run(monkeypatch, "--only=joint") == 1
    assert run(monkeypatch, "--only=joint", "--quick") == 0
    assert run(monkeypatch, "--only=start", "--quick") == 1


@pytest.mark.parametrize(
    ("status", "errors", "row"),
    [
        (-9, "", {"failed": "killed by signal 9; no output"}),
        (
            1,
            "ModuleNotFoundError: No module named 'torch.nn'",
            {"left_out": "torch is not installed"},
        ),
        (1, "ModuleNotFoundError: No module named 'pipelines'", None),
    ],
)
def test_jobs_without_figures(monkeypatch, status, errors, row):
    def run(command, **_):
        return subprocess.CompletedProcess(command, status, "", errors)

    monkeypatch.setattr(benchmarks.subprocess, "run", run)
    wanted = Row("images", **(row or {"failed": errors}))
    assert benchmarks.measured("images", quick=True) == [wanted]


@pytest.mark.thorough
def test_a_quick_run_of_everything():
    command = [sys.executable, "-m", "benchmarks", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(table) >= 2 + len(benchmarks.JOBS)
    assert not re.search(r"\| failed +\|", done.stdout), done.stdout
