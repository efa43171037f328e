"""The report on compiled programs: whether they fit, and how fast they can be."""

import pytest
import tensorflow as tf

from keras_vitbert.extras.ahead_of_time import aot_compile
from keras_vitbert.extras.ahead_of_time.programs import Programs, StepProgram
from tests.keras_vitbert.extras.ahead_of_time.results import GIB, compiled, refused
from tpu.slices import find_slice


def test_the_rates_are_those_of_the_training_step(monkeypatch):
    results = [compiled(3), compiled(4), compiled(4)]
    monkeypatch.setattr(aot_compile, "compile_apart", lambda *program: results.pop(0))
    spec = tf.TensorSpec((4,), tf.float32)
    steps = [StepProgram(name, lambda x: x + 1, spec) for name in ("train", "validate")]
    batch = {"images": 8, "texts": 16}
    programs = Programs(steps, [], batch, text_length=32, run_steps=10)
    asked = "x", lambda strategy: programs, find_slice("v3-8")
    outcome = aot_compile.prove(*asked)
    assert outcome["programs"] == {"train": compiled(3), "validate": compiled(4)}
    assert outcome["memory"]["program"] == "validate"
    at = outcome["roofline"]["at"]["100%"]
    assert at["images_per_second"] == pytest.approx(8 / at["seconds"])
    assert at["tokens_per_second"] == pytest.approx(16 * 32 / at["seconds"])
    assert "roofline" not in aot_compile.prove(*asked, only=("validate",))
    with pytest.raises(ValueError, match="'probe'.* train, validate"):
        aot_compile.prove(*asked, only=("probe",))


def test_the_roofline():
    """A core of a v3 has half of 123 TFLOP/s and of 900 GB/s."""
    counts, steps = {"images": 4096}, 1_000_000
    found = aot_compile.roofline(compiled(), find_slice("v3-128"), counts, steps)
    assert found["compute_seconds"] == pytest.approx(0.1)
    assert found["memory_seconds"] == pytest.approx(0.2) and found["bound"] == "memory"
    expected = {"seconds": 0.4, "images_per_second": 10_240, "days": 0.4e6 / 86_400}
    assert found["at"]["50%"] == pytest.approx(expected)


def test_variables_of_other_programs_count_as_well():
    programs = {"train": compiled(peak=6, arguments=2.5), "validate": compiled(14, 0.5)}
    found = aot_compile.verdict(programs, int(2.5 * GIB))
    assert not found["fits"] and found["program"] == "validate" and found["needed"] == 16 * GIB
    assert aot_compile.verdict(programs, GIB)["fits"]
    programs["train"] = refused(20)
    found = aot_compile.verdict(programs, GIB)
    assert not found["fits"] and found["program"] == "train" and found["needed"] == 20 * GIB
