"""The proof: which programs are compiled, and what cannot be."""

import pytest
import tensorflow as tf

from keras_vitbert.extras.ahead_of_time import aot_compile
from keras_vitbert.extras.ahead_of_time.programs import Programs, StepProgram
from tests.keras_vitbert.extras.ahead_of_time.results import compiled, refused
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


def test_a_program_that_the_compiler_refuses(compiler):
    compiler(ValueError("of another kind"))
    with pytest.raises(ValueError, match="'train'.* of another kind"):
        aot_compile.prove("x", build(train=add_one), V3_8)


def test_a_step_is_compared_with_another_or_with_one_that_does_not_fit(compiler):
    compiler(compiled(4), refused(20))
    found = aot_compile.compare(compiled(5), "joint", build(train=add_one), V3_8)
    assert found["with"] == "joint" and found["differences"]["peak"] == 0.25
    found = aot_compile.compare(compiled(5), "joint", build(train=add_one), V3_8)
    assert found["program"] == refused(20) and not found["differences"]
