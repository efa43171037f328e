import collections
import time

import pytest

from pipelines import status


@pytest.fixture
def clock(monkeypatch):
    """`clock(seconds)`: so much time passes; nothing has been done before."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(status, "_seconds", collections.Counter())
    monkeypatch.setattr(status, "_since", now[0])

    def clock(seconds):
        now[0] += seconds

    return clock


def test_each_second_counts_once(clock):
    with pytest.raises(KeyError), status.timed("steps"):
        clock(4)
        with status.doing("a", "drawing"):
            clock(2)
            with status.doing("b"):  # of the same kind
                clock(1)
        clock(8)
        with status.doing("c", "saving"):
            raise KeyError  # closes what it leaves
    clock(16)
    assert status.times() == {"other": 16, "steps": 12, "drawing": 3, "saving": 0}
