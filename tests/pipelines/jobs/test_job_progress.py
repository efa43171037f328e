import io
import sys
import threading
import time

import pytest

from pipelines.jobs import job_progress


def test_progress_lines():
    assert job_progress.line("x", 10, 2, 0, "words", 0, 60.0) == "x: 2 of 10 shards"
    assert job_progress.line("x", 10, 2, 2, "words", 3_000_000, 60.0) == (
        "x: 4 of 10 shards, 3,000,000 words, 50,000 a second, 3 min left"
    )
    assert job_progress.duration(89) == "89 s"
    assert job_progress.duration(5400) == "1 h 30 min"


class Poll:
    """Tells of one more shard and a million more words each time; waits for some calls."""

    def __init__(self, calls):
        self.calls, self._awaited, self.reached = 0, calls, threading.Event()

    def __call__(self):
        self.calls += 1
        if self.calls > self._awaited:
            self.reached.set()
        return self.calls, self.calls * 1_000_000


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(job_progress, "_SECONDS", 0.01)
    monkeypatch.setattr(job_progress, "_TERMINAL_SECONDS", 0.01)


def test_lines_come_while_the_block_runs_and_none_after_it(capsys):
    poll = Poll(2)
    with job_progress.progress("x", 10, 2, "words", poll):
        assert poll.reached.wait(60)
    lines = capsys.readouterr().err.splitlines()
    calls = poll.calls
    assert len(lines) == calls >= 3
    for number, line in enumerate(lines, 1):
        assert line.startswith(f"x: {2 + number} of 10 shards, {number},000,000 words, ")
    time.sleep(0.05)
    assert poll.calls == calls
    assert capsys.readouterr().err == ""


def test_a_terminal_has_one_line_that_vanishes(monkeypatch):
    class Terminal(io.StringIO):
        isatty = staticmethod(lambda: True)

    monkeypatch.setattr(sys, "stderr", Terminal())
    poll = Poll(2)
    with pytest.raises(RuntimeError), job_progress.progress("x", 10, 0, "words", poll):
        assert poll.reached.wait(60)
        raise RuntimeError
    text = sys.stderr.getvalue()
    first, *lines, last = text.split("\r")
    assert first == "" and last == "\x1b[K" and len(lines) == poll.calls
    assert all(line.startswith("x: ") and line.endswith(" left\x1b[K") for line in lines)
    assert "\n" not in text
