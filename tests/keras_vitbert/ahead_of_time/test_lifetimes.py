"""Memory by the lifetimes of tensors, against graphs whose memory can be counted by hand."""

import itertools
import json
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.ahead_of_time.lifetimes import _Memory, _Value, peak_of
from tests.tpu.servers import ROOT

N = 10
SQUARE, ROW = 4 * N * N, 4 * N  # bytes


def peak(function, *shapes):
    """The peak of a function of tensors of some shapes; arguments do not count."""
    specs = [tf.TensorSpec(shape) for shape in shapes]
    traced = tf.function(function, autograph=False).get_concrete_function(*specs)
    return peak_of(traced.graph)


def test_a_tensor_is_freed_after_its_last_use():
    def chain(x):
        for _ in range(5):
            x = x @ x
        return x

    def kept(x):
        first = x @ x
        return chain(first) @ first

    assert peak(chain, (N, N)).bytes == 2 * SQUARE
    assert peak(kept, (N, N)).bytes == 3 * SQUARE


def test_gradients_keep_what_they_need():
    """Each of the layers keeps its output for the gradient of the next one."""

    def gradient(x, w, layers):
        with tf.GradientTape() as tape:
            tape.watch(w)
            for _ in range(layers):
                x = tf.tanh(x @ w)
            loss = tf.reduce_sum(x)
        return tape.gradient(loss, w)

    shapes = (N * N, N), (N, N)
    found = {n: peak(lambda x, w, n=n: gradient(x, w, n), *shapes).bytes for n in (2, 3, 7)}
    of_layer = 4 * N * N * N
    assert found[3] - found[2] == pytest.approx(of_layer, abs=2 * SQUARE)
    assert found[7] - found[3] == pytest.approx(4 * of_layer, abs=8 * SQUARE)


def test_views_and_results_in_place_take_nothing():
    def views(x):
        y = x @ x
        return tf.reshape(tf.expand_dims(tf.identity(y), 0), (N * N,))

    def in_place(x):
        return tf.exp(tf.tanh(x @ x) * 2.0) + x

    assert peak(views, (N, N)).bytes == SQUARE
    assert peak(in_place, (N, N)).bytes == SQUARE
    # Not if another operation needs it, nor if it has another size.
    assert peak(lambda x: tf.exp(x), (N, N)).bytes == SQUARE
    assert peak(lambda x: [y := x @ x, tf.exp(y)], (N, N)).bytes == 2 * SQUARE
    assert peak(lambda x: tf.cast(x @ x, tf.float16), (N, N)).bytes == 1.5 * SQUARE


def test_what_is_not_needed_is_not_run():
    def function(x):
        tf.tile(x, (9, 9))
        return x @ x

    assert peak(function, (N, N)).bytes == SQUARE


def test_operations_run_when_their_inputs_are_there():
    """Two passes at once hold the tensors of both, unless one waits for the other."""

    def one(x):
        kept = [x]
        for _ in range(4):
            kept.append(kept[-1] @ x)
        return tf.reduce_sum(tf.add_n(kept[1:]), axis=0)

    def both(x, z):
        return one(x) + one(z)

    def in_turn(x, z):
        first = one(x)
        with tf.control_dependencies([first]):
            return first + one(tf.identity(z))

    alone = peak(one, (N, N)).bytes
    assert alone >= 4 * SQUARE
    assert peak(both, (N, N), (N, N)).bytes == 2 * alone
    assert peak(in_turn, (N, N), (N, N)).bytes == alone + ROW


def test_a_loop_takes_the_memory_of_one_turn():
    def turn(x):
        return tf.reduce_sum(x @ x @ x, axis=0)

    def loop(x, turns):
        def body(number, total):
            return number + 1, total + turn(x * tf.cast(number, tf.float32))

        start = tf.constant(0), tf.zeros(N)
        return tf.while_loop(lambda number, _: number < turns, body, start)[1]

    found = [peak(lambda x, turns=turns: loop(x, turns), (N, N)) for turns in (2, 50)]
    assert found[0].bytes == found[1].bytes
    assert 3 * SQUARE <= found[0].bytes <= 3 * SQUARE + 8 * ROW
    assert f"float32 ({N}, {N}) of MatMul" in found[0].kinds()


def test_a_loop_adds_to_the_sums_where_they_are():
    """Two sums; beside them there is one product, and the transposed matrix of the other."""
    product = tf.function(lambda x: (x @ x, tf.transpose(x) @ x), autograph=False)

    def loop(x):
        def body(number, *sums):
            return number + 1, *(a + b for a, b in zip(sums, product(x), strict=True))

        start = tf.constant(0), x * 2.0, x * 3.0
        return tf.while_loop(lambda number, *_: number < 3, body, start)[1:]

    assert peak(loop, (N, N)).bytes == pytest.approx(4 * SQUARE, abs=64)


def test_calls_and_conditions_take_the_memory_of_what_they_run():
    inner = tf.function(lambda x: tf.reduce_sum(x @ x @ x), autograph=False)
    assert peak(lambda x: inner(x) + 1.0, (N, N)).bytes == pytest.approx(2 * SQUARE, abs=16)

    def condition(x):
        return tf.cond(tf.reduce_sum(x) > 0, lambda: tf.reduce_sum(x), lambda: inner(x))

    assert peak(condition, (N, N)).bytes == pytest.approx(2 * SQUARE, abs=16)


def test_the_moment_of_the_peak_is_named():
    def function(x):
        large = tf.tile(tf.tanh(x), (2, 2), name="large")
        return tf.reduce_sum(large, axis=0)

    found = peak(function, (N, N))
    assert found.operation == "large"
    assert found.kinds() == {
        f"float32 ({2 * N}, {2 * N}) of Tile": 4 * SQUARE,
        f"float32 ({N}, {N}) of Tanh": SQUARE,
    }
    assert found.bytes == 5 * SQUARE


@pytest.mark.slow
def test_what_the_allocator_of_gpus_counts():
    """A joint step that is run: kernels need scratch memory, and end in any order."""
    settings = {
        "whole": {},
        "two parts": {"accumulation": 2},
        "computed again": {"remat": True},
        "both": {"accumulation": 4, "remat": True},
    }
    script = "tests.keras_vitbert.ahead_of_time.allocator_script"
    done = subprocess.run(
        [sys.executable, "-m", script, json.dumps(settings)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    least = {}
    for name, (tensors, allocated, counted) in found.items():
        least[name], most = counted[0], counted[-1]
        print(
            f"{name}: {tensors:,} of tensors, {allocated:,} allocated; "
            f"counted: {least[name]:,} to {most:,}"
        )
        # Of the orders in which kernels end in different steps it foretells one.
        assert tensors <= allocated
        assert 0.85 * least[name] <= allocated <= 1.15 * most
    assert least["whole"] > 1.5 * least["two parts"] > 3 * least["both"]


def test_pieces_are_those_of_the_allocator():
    """Random tensors come and go; against a list of bytes, and the allocator's rules."""
    rng = np.random.default_rng(0)
    memory, graph = _Memory(), tf.Graph()
    operation = types.SimpleNamespace(name="x")
    with graph.as_default():
        values = [_Value(tf.zeros(int(size), tf.int8)) for size in rng.integers(1, 5_000, 200)]
    for number in rng.integers(0, len(values), 5_000):
        value = values[number]
        if value in memory.live:
            memory.remove(value)
        else:
            memory.add(value, operation)
        spans = sorted((place, place + piece) for place, piece in memory.live.values())
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))
        gaps, place = [], 0
        for begin, end in spans:
            gaps += [(begin - place, place)] if begin > place else []
            place = end
        assert memory.free == sorted(gaps) and memory.tail == place  # with neighbours united
        for live, (_, piece) in memory.live.items():
            needed = -(-live.tensor.shape[0] // 256) * 256
            assert needed <= piece < 2 * needed
        assert memory.in_use == sum(piece for _, piece in memory.live.values())
    assert memory.most < memory.allocated <= memory.end
    for owner in list(memory.live):
        memory.remove(owner)
    assert (memory.free, memory.tail, memory.in_use, memory.total) == ([], 0, 0, 0)
