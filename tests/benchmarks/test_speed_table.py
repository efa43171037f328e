import pytest

from benchmarks.speed_table import Row, interleaved

FAST = Row("a step", 0.5, peer=1.0, ratio=2.1, ceiling=0.25, at_least=1.4, note="3 ratios")
SLOW = Row("a stream", 1234.4, "images/s", peer=1500.0, ratio=0.8, ceiling=2000.0, at_least=1.5)
START = Row("a start", 12.0, at_most=10.0)
PLAIN = Row("a refresh", 0.0123)
FAILED = Row("joint", failed="ValueError: no")
LEFT_OUT = Row("peer", left_out="torch is not installed")


def test_sides_take_turns_in_changing_order():
    calls = []
    sides = {name: lambda name=name: calls.append(name) or len(calls) for name in "ab"}
    assert interleaved(sides, 2, warm=1) == {"a": [4, 5], "b": [3, 6]}
    assert "".join(calls) == "abbaab"


def test_ratios_say_how_many_times_as_fast_ours_is():
    seconds = Row.compared("a step", [1.0, 2.0, 4.0], [3.0, 4.0, 4.0])
    assert (seconds.ours, seconds.peer, seconds.ratio) == (2.0, 4.0, 2.0)
    rates = Row.compared("a stream", [3.0, 4.0], [1.0, 4.0], "images/s")
    assert rates.ratio == 2.0


def test_share_is_of_the_ceiling_for_seconds_and_for_rates():
    assert FAST.share == 0.25 / 0.5
    assert SLOW.share == 1234.4 / 2000
    assert PLAIN.share is None


@pytest.mark.parametrize(
    ("row", "passes", "far_off"),
    [
        (FAST, True, False),
        (SLOW, False, False),  # by less than half
        (Row("slower", 3.0, peer=1.0, ratio=0.7, at_least=1.5), False, True),
        (Row("half", 2.0, peer=1.0, ratio=0.75, at_least=1.5), False, False),
        (START, False, False),  # seconds are the machine's
        (Row("in time", 10.0, at_most=10.0), True, False),
        (PLAIN, None, False),
        (FAILED, False, True),
        (LEFT_OUT, None, False),
    ],
)
def test_what_passes(row, passes, far_off):
    assert row.passes is passes
    assert row.is_far_off is far_off
