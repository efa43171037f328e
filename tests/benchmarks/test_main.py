"""`python -m benchmarks`, with jobs that take no time, and as a whole at tiny sizes."""

import json
import re
import subprocess
import sys

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import steps
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


def test_unknown_names_are_refused(jobs, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "--only=joint,star,end")
    assert "'end'" in capsys.readouterr().err


def test_jobs_take_their_settings(monkeypatch):
    seen = []
    monkeypatch.setattr(steps, "rows", lambda **settings: seen.append(settings), raising=False)
    job = benchmarks.Job("steps:rows", {"size": "base", "rounds": 7}, {"size": "sample"})
    job.rows(quick=False)
    job.rows(quick=True)
    assert seen == [{"size": "base", "rounds": 7}, {"size": "sample", "rounds": 7}]


def test_what_is_not_installed_is_left_out(monkeypatch, capsys):
    def lacking(**_):
        raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")

    monkeypatch.setattr(steps, "rows", lacking, raising=False)
    monkeypatch.setattr(benchmarks, "JOBS", {"a": benchmarks.Job("steps:rows", {}, {})})
    assert run(monkeypatch, "--job=a") == 0
    [row] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert Row(**row) == Row("a", left_out="torch.nn is not installed")


@pytest.mark.parametrize(
    ("done", "failure"),
    [
        ((1, "Traceback\n  more\nValueError: no such size\n\n"), "ValueError: no such size"),
        ((-9, ""), "killed by signal 9; no output"),
    ],
)
def test_failed_processes_are_told(monkeypatch, done, failure):
    status, errors = done
    monkeypatch.setattr(
        benchmarks.subprocess,
        "run",
        lambda command, **_: subprocess.CompletedProcess(command, status, "", errors),
    )
    assert benchmarks.measured("joint_float32_8", quick=True) == [
        Row("joint_float32_8", failed=failure)
    ]


@pytest.mark.thorough
def test_a_quick_run_of_everything():
    command = [sys.executable, "-m", "benchmarks", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(table) >= 2 + len(benchmarks.JOBS)
    assert not re.search(r"\| failed +\|", done.stdout), done.stdout
