"""The parts of a step on one GPU, of programs whose memory is known."""

import dataclasses
import types

import pytest
import tensorflow as tf

from keras_vitbert.ahead_of_time import gpu
from keras_vitbert.ahead_of_time.programs import Programs, StepProgram
from keras_vitbert.ahead_of_time.proof import Subject

BATCH = {"images": 96, "texts": 24}
ROW = 2**10  # values of an example, each as large as the next
VALUES = 2**20


def subject(seen=None, **programs):
    """A subject whose programs hold some values of each image of a part, and variables."""
    trainer = types.SimpleNamespace()
    steps = []
    for name, values in programs.items():

        def step(x, name=name, values=values):
            if seen is not None:
                seen.append((name, trainer.accumulation))
            examples = BATCH["images"] // trainer.accumulation
            return tf.tile(tf.zeros((examples, 1)), (1, values * ROW))

        steps.append(StepProgram(name, step, tf.TensorSpec((BATCH["images"], 1))))
    built = Programs(steps, [tf.Variable(tf.zeros(VALUES))], trainer)
    keys = {"images": "image_batch", "texts": "text_batch"}
    return Subject("x", BATCH, keys, {}, 0, 10, lambda strategy, changes: built)


def bytes_of(values, parts):
    """Variables, arguments and results."""
    examples = BATCH["images"] // parts
    return 4 * (VALUES + BATCH["images"] + examples * values * ROW)


def test_a_part_of_the_memory_is_left():
    assert gpu.usable(16) == pytest.approx(0.8 * 15.5 * 2**30)


@pytest.mark.parametrize("first", [1, 2])
def test_the_fewest_parts_that_fit(monkeypatch, first):
    """Against trying all of them; sizes are millions of bytes here."""
    monkeypatch.setattr(gpu, "usable", lambda size: size * 10**6)
    sizes, seen = [5, 6, 10, 20, 40, 80, 200, 500, 1000], []
    tried = dataclasses.replace(subject(seen, train=300, validate=400, probe=100), parts=first)
    outcome = gpu.prove(tried, sizes)
    divisors = [n for n in (1, 2, 3, 4, 6, 8, 12, 24) if n >= first]
    for found in outcome["gpus"]:
        fitting = [n for n in divisors if bytes_of(400, n) <= found["gib"] * 10**6]
        assert found["parts"] == (fitting[0] if fitting else None)
        shown = fitting[0] if fitting else 24
        assert found["part"] == {"images": 96 // shown, "texts": 24 // shown}
        sizes_of = {name: program["bytes"] for name, program in found["programs"].items()}
        values = {"train": 300, "validate": 400, "probe": 100}
        assert sizes_of == {name: bytes_of(values[name], shown) for name in values}
        assert list(sizes_of) == list(values)
    assert [found["gib"] for found in outcome["gpus"]] == sizes
    assert outcome["gpus"][0]["parts"] is None and outcome["gpus"][-1]["parts"] == first
    assert outcome["variables_bytes"] == 4 * VALUES
    assert len(seen) == len(set(seen)) < len(values) * len(divisors)


def test_another_program_may_need_most_in_small_parts(monkeypatch):
    """Validation grows with a part, and training here hardly does."""
    monkeypatch.setattr(gpu, "usable", lambda size: size * 10**6)

    trainer = types.SimpleNamespace()

    def validate(x):
        examples = BATCH["images"] // trainer.accumulation
        return tf.tile(tf.zeros(examples), (2**17,))

    steps = [
        StepProgram("train", lambda x: tf.tile(x, (2**20,)), tf.TensorSpec((8,))),
        StepProgram("validate", validate, tf.TensorSpec((8,))),
    ]
    built = Programs(steps, [], trainer)
    small = Subject("x", BATCH, {}, {}, 0, 10, lambda strategy, changes: built)
    [found] = gpu.prove(small, [40])["gpus"]
    assert found["parts"] == 2 and found["programs"]["train"]["bytes"] > 30 * 10**6
    [found] = gpu.prove(small, [30])["gpus"]
    assert found["parts"] is None


def test_programs_that_are_none():
    with pytest.raises(ValueError, match="'tain'.* train"):
        gpu.prove(subject(train=1), [16], only=("tain",))


def test_the_table():
    outcome = gpu.prove(subject(train=2**13, validate=1), [1, 16])
    lines = gpu.table(outcome).splitlines()
    assert lines[0] == "x on one GPU"
    assert lines[1] == "a step: 96 images and 24 texts; variables: 4.00 MiB"
    assert lines[3].split() == "GPU usable parts a part train validate".split()
    assert lines[4].split()[:10] == "1 GiB 0.40 GiB 8 12 images and 3".split() + ["texts"]
    assert lines[4].split()[10:] == "0.38 GiB 4.05 MiB".split()
    assert "16 GiB  12.40 GiB" in lines[5] and "96 images and 24 texts" in lines[5]
