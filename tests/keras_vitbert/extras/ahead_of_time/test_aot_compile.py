"""Which programs are compiled, and the report: whether they fit, and how fast they can be."""

import dataclasses

import pytest
import tensorflow as tf

from keras_vitbert.extras.ahead_of_time import aot_compile
from keras_vitbert.extras.ahead_of_time.programs import Programs, StepProgram
from tests.keras_vitbert.extras.ahead_of_time.results import GIB, compiled, refused
from tpu.slices import find_slice

V3_8 = find_slice("v3-8")


def build(**steps):
    """Makes a program of each step, whose batch is four numbers."""
    spec = tf.TensorSpec((4,), tf.float32)
    programs = [StepProgram(name, step, spec) for name, step in steps.items()]
    return lambda strategy: Programs(programs, [], {"images": 8}, run_steps=10)


def add_one(x):
    return x + 1


@pytest.fixture
def compiler(monkeypatch):
    """`compiler(results)` stands in for the TPU's: its results in turn, or what it raises."""

    def stand_in(*results):
        remaining = list(results)

        def compile_apart(text, slice_, is_whole):
            assert slice_ is V3_8 and not is_whole and b"stablehlo" in text
            result = remaining.pop(0)
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr(aot_compile, "compile_apart", compile_apart)

    return stand_in


def test_all_programs_are_compiled_or_those_that_are_named(compiler):
    steps = build(train=add_one, validate=add_one)
    compiler(compiled(3), compiled(4))
    outcome = aot_compile.prove("x", steps, V3_8)
    assert outcome["programs"] == {"train": compiled(3), "validate": compiled(4)}
    assert outcome["memory"]["program"] == "validate"
    at = outcome["roofline"]["at"]["100%"]
    assert at["images_per_second"] == pytest.approx(8 / at["seconds"])
    compiler(compiled(4))
    outcome = aot_compile.prove("x", steps, V3_8, only=("validate",))
    assert list(outcome["programs"]) == ["validate"] and "roofline" not in outcome
    with pytest.raises(ValueError, match="'probe'.* train, validate"):
        aot_compile.prove("x", steps, V3_8, only=("probe",))


def test_a_program_that_no_tpu_can_run(compiler):
    compiler(compiled())

    def by_text(x):
        return tf.strings.to_number(tf.strings.as_string(x))

    with pytest.raises(ValueError, match="'probe'.*AsString") as caught:
        aot_compile.prove("x", build(train=add_one, probe=by_text), V3_8)
    assert "\n" not in str(caught.value)


def test_a_step_is_compared_with_another_or_with_one_that_does_not_fit(compiler):
    compiler(compiled(4), refused(20))
    found = aot_compile.compare(compiled(5), "joint", build(train=add_one), V3_8)
    assert found["with"] == "joint" and found["differences"]["peak"] == 0.25
    found = aot_compile.compare(compiled(5), "joint", build(train=add_one), V3_8)
    assert found["program"] == refused(20) and not found["differences"]


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
