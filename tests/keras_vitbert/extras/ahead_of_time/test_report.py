"""The report: whether programs fit, how fast they can be, and how they differ."""

import dataclasses

import pytest

from keras_vitbert.extras.ahead_of_time import aot_compile
from tests.keras_vitbert.extras.ahead_of_time.results import GIB, compiled, refused
from tpu.slices import find_slice


def test_the_roofline():
    """A core of a v3 has half of 123 TFLOP/s and of 900 GB/s."""
    counts, steps = {"images": 4096, "tokens": 512 * 512}, 1_000_000
    found = aot_compile.roofline(compiled(), find_slice("v3-128"), counts, steps)
    assert found["compute_seconds"] == pytest.approx(0.1)
    assert found["memory_seconds"] == pytest.approx(0.2) and found["bound"] == "memory"
    assert found["at"]["100%"] == pytest.approx(
        {
            "seconds": 0.2,
            "images_per_second": 20_480,
            "tokens_per_second": 512 * 512 / 0.2,
            "days": 0.2e6 / 86_400,
        }
    )
    assert found["at"]["50%"]["days"] == pytest.approx(0.4e6 / 86_400)
    # A chip of a v5e has 197 TFLOP/s and 819 GB/s, and is one replica.
    found = aot_compile.roofline(compiled(bytes=8.19e9), find_slice("v5litepod-16"), counts, steps)
    assert found["bound"] == "compute" and found["memory_seconds"] == pytest.approx(0.01)
    assert found["compute_seconds"] == pytest.approx(6.15 / 197)


def test_variables_of_other_programs_count_as_well():
    programs = {"train": compiled(peak=6, arguments=2.5), "validate": compiled(14, 0.5)}
    found = aot_compile.verdict(programs, int(2.5 * GIB))
    assert found == {
        "fits": False,
        "program": "validate",
        "needed": 16 * GIB,
        "available": int(15.48 * GIB),
    }
    assert aot_compile.verdict(programs, GIB)["fits"]
    programs["train"] = refused(20)
    found = aot_compile.verdict(programs, GIB)
    assert not found["fits"] and found["program"] == "train" and found["needed"] == 20 * GIB


def test_differences():
    other = compiled(peak=4, bytes=100e9)
    found = aot_compile.differences(compiled(peak=5, bytes=99e9), other)
    expected = {"operations": 0, "bytes": -0.01, "peak": 0.25, "all_reduced_bytes": 0}
    assert found == pytest.approx(expected)


def test_the_table_says_what_is_sent_beside_sums():
    gathers = {"count": 12, "bytes": 834_000_000}
    outcome = {
        "what": "joint",
        "tpu": dataclasses.asdict(find_slice("v4-8")),
        "batch": {"images": 32},
        "steps": 0,
        "programs": {
            "train": compiled(collectives={"all-gather": gathers, **compiled()["collectives"]}),
            "validate": compiled(),
            "probe": refused(20),
        },
        "memory": {"fits": False, "program": "probe", "needed": 20 * GIB, "available": 15 * GIB},
    }
    lines = aot_compile.table(outcome).splitlines()
    assert [line for line in lines if " sends " in line] == [
        "train sends all-gather 0.834 GB in 12, all-reduce 0.532 GB in 3"
    ]
