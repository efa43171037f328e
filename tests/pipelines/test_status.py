import time

import pytest

from pipelines import status


@pytest.fixture
def clock(monkeypatch):
    """`clock(seconds)`: so much time passes; nothing has been done before."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(status, "_times", status._Times())
    monkeypatch.setattr(status, "_took", {})
    monkeypatch.setattr(status, "_beat", lambda: None)

    def clock(seconds):
        now[0] += seconds

    return clock


def test_what_begins_is_said_again_only_if_it_took_long(clock, capsys):
    for seconds in (1, 3, 1):
        with status.doing("saving"):
            clock(seconds)
    assert capsys.readouterr().err == "saving ...\n" * 2  # the first, and after the long one
    with status.doing("drawing"):
        clock(5)
    with status.doing("drawing"):
        assert capsys.readouterr().err == "drawing ...\n" * 2


def test_each_second_counts_once(clock):
    with status.timed("steps"):
        clock(4)
        with status.doing("a", "drawing"):
            clock(2)
            with status.doing("b"):  # of the same kind
                clock(1)
        clock(8)
    clock(16)
    assert status.times() == {"other": 16, "steps": 12, "drawing": 3}


def test_what_an_exception_leaves_is_closed(clock, capsys):
    with pytest.raises(KeyError), status.doing("a", "drawing"):
        with status.doing("b", "saving"):
            clock(1)
            raise KeyError
    clock(2)
    assert status.times() == {"drawing": 0, "saving": 1, "other": 2}


def test_a_display_takes_the_place_of_lines(clock, capsys):
    shown = []
    with status.display(shown.append), status.doing("a"), status.doing("b"):
        pass
    assert shown == ["a", "b", "a", ""] and not capsys.readouterr().err


def test_how_far_it_is_is_counted(clock):
    with status.doing("reading") as activity:
        seen = [str(activity) for _ in status.counted("xy", 2, "file")]
    assert seen == ["reading, file 1 of 2", "reading, file 2 of 2"]


def test_a_long_silence_is_broken(monkeypatch, capsys):
    monkeypatch.setattr(status, "SILENCE", 0.02)
    monkeypatch.setattr(status, "_took", {})
    monkeypatch.setattr(status, "_heart", None)
    status._spoken.set()  # a thread of other tests waits no longer
    said = []
    monkeypatch.setattr(status, "say", said.append)
    with status.doing("waiting") as activity:
        activity.part = "batch 2 of 3"
        deadline = time.monotonic() + 30
        while len(said) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert said[0] == "waiting ..." and said[1] == "waiting, batch 2 of 3, 0 s ..."
