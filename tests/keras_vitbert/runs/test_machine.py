"""Several processes that train one model, as on several machines."""

import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from jax.errors import JaxRuntimeError

from keras_vitbert.runs.machine import Workers
from pipelines import command_line
from pipelines.command_line import EXIT_DONE, EXIT_STOPPED
from tests.forked import Forked
from tests.keras_vitbert.jax_process import environments
from tests.keras_vitbert.killed import pretrain_with_signal
from tests.keras_vitbert.tiny_runs import (
    arguments,
    assert_same_values,
    checkpoint_values,
    files_below,
    metrics_rows,
)


@pytest.mark.parametrize(
    ("kind", "text", "is_lost"),
    [
        (JaxRuntimeError, "UNAVAILABLE: Task 1 heartbeat timeout", True),
        (ValueError, "UNKNOWN: Gloo all-reduce failed: Connection closed by peer", True),
        (JaxRuntimeError, "RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes", False),
        (ValueError, "cannot reshape array", False),
    ],
)
def test_only_a_lost_worker_of_jax_asks_for_a_restart(monkeypatch, kind, text, is_lost):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    at_exit = []
    monkeypatch.setattr("atexit.register", lambda *call: at_exit.append(call))
    workers = Workers(tf.distribute.get_strategy())
    workers.count = 2
    with pytest.raises(command_line.Stopped if is_lost else kind), workers.watched():
        raise kind(text)
    assert at_exit == [(os._exit, EXIT_STOPPED)] * is_lost


@pytest.fixture(scope="module")
def run(sources):
    """`run(folder, number, step, who)`: two workers, of which `who` signals itself in a step."""

    def run(folder, number=0, step=0, who=1):
        argv = arguments(sources, f"--output_dir={folder}", "--variant=vitbert_no_kd")
        workers = [
            Forked(pretrain_with_signal, argv, step * (index == who), number, **environment)
            for index, environment in enumerate(environments(2, 1))
        ]
        return [worker.end() for worker in workers]

    return run


@pytest.fixture(scope="module")
def unbroken(run, tmp_path_factory):
    """The folder of a run of two workers."""
    folder = tmp_path_factory.mktemp("workers") / "run"
    for status, errors in run(folder):
        assert status == EXIT_DONE, errors[-3000:]
        assert "steps on 2 replicas" in errors
    return folder


@pytest.mark.slow
def test_two_workers_make_the_numbers_of_one(finished, unbroken):
    one = finished("vitbert_no_kd")
    assert len(metrics_rows(unbroken)) == 3
    for ours, theirs in zip(metrics_rows(unbroken), metrics_rows(one), strict=True):
        assert set(ours) == set(theirs)
        for name in theirs:
            assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-4, abs=1e-6)
    found, expected = checkpoint_values(unbroken), checkpoint_values(one)
    assert set(found) == set(expected)
    for name, value in expected.items():
        # A checkpoint holds the sums of metrics over the workers, of which each has a part.
        if not name.startswith("metrics"):
            np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
    # One of them wrote: as many files of each name as one process writes.
    names = [
        sorted(name.rpartition("/")[2].partition(".tfevents")[0] for name in files_below(folder))
        for folder in (unbroken, one)
    ]
    assert names[0] == names[1] and names[0].count("events.out") == 2  # training and validation


@pytest.mark.slow
def test_stopped_and_killed_workers_end_the_same(run, unbroken, tmp_path):
    """A signal to one, and in the restart the chief is killed."""
    folder = tmp_path / "run"
    for status, errors in run(folder, signal.SIGTERM, 3):
        assert status == EXIT_STOPPED, errors[-3000:]
        assert "stopped: at step 3, saved in" in errors

    (killed, _), (status, errors) = run(folder, signal.SIGKILL, 6, 0)
    assert killed == -signal.SIGKILL and status == EXIT_STOPPED, errors[-3000:]
    assert "resumed at step 3 of 10" in errors
    [line] = [line for line in errors.splitlines() if line.startswith("stopped: ")]
    assert "worker 1 of 2 has lost another worker" in line
    assert not (folder / "summary.json").exists()
    assert (folder / "checkpoints" / "LAST").read_text() == "step-00000004\n"

    for status, errors in run(folder):
        assert status == EXIT_DONE, errors[-3000:]
        assert "resumed at step 4 of 10" in errors
    assert_same_values(checkpoint_values(folder), checkpoint_values(unbroken))
    (cut, *ours), (whole, *theirs) = metrics_rows(folder), metrics_rows(unbroken)
    assert ours == theirs
    # The epoch that was cut goes on with equal parts of its sums, not each worker with its own.
    assert set(cut) == set(whole)
    for name in whole:
        assert float(cut[name]) == pytest.approx(float(whole[name]), rel=1e-6), name
