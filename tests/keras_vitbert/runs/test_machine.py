"""Several processes that train one model, as on several machines."""

import ctypes
import json
import os
import signal
import socket

import keras
import numpy as np
import pytest
import tensorflow as tf
from jax.errors import JaxRuntimeError

from keras_vitbert import pretrain
from keras_vitbert.runs import divergence
from keras_vitbert.runs.identity import Identity
from keras_vitbert.runs.machine import Workers
from keras_vitbert.runs.run_folder import RunFolder
from pipelines import command_line
from pipelines.command_line import EXIT_DONE, EXIT_STOPPED
from tests.forked import Forked
from tests.keras_vitbert.tiny_runs import (
    arguments,
    assert_same_values,
    checkpoint_values,
    files_below,
    metrics_rows,
)
from tests.marks import slow, thorough

FLAGS = ("--variant=vitbert_no_kd",)


def test_one_process_is_the_chief_of_itself():
    workers = Workers(tf.distribute.get_strategy())
    assert (workers.count, workers.index, workers.is_chief) == (1, 0, True)
    assert workers.any_asks(True) is True and workers.any_asks(False) is False
    workers.wait()
    with pytest.raises(tf.errors.UnavailableError), workers.watched():
        raise tf.errors.UnavailableError(None, None, "of something else")


@pytest.mark.parametrize(
    ("kind", "text", "is_lost"),
    [
        (JaxRuntimeError, "UNAVAILABLE: Task 1 heartbeat timeout", True),
        (JaxRuntimeError, "DEADLINE_EXCEEDED: Barrier timed out", True),
        (ValueError, "UNKNOWN: Gloo all-reduce failed: Connection closed by peer", True),
        (JaxRuntimeError, "RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes", False),
        (JaxRuntimeError, "INVALID_ARGUMENT: the program needs 17.2G of 15.7G hbm", False),
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


def test_only_one_process_writes_the_folder(tmp_path):
    folder = RunFolder(str(tmp_path / "run"), writes=False)
    Identity({"variant": "vit", "steps": 1}, {}, vocabulary=["word"]).begin(folder)
    folder.write("file", "text")
    folder.write_rows([{"step": 1}])
    assert folder.record() is folder.summary() is None and not os.listdir(tmp_path)


def test_a_signal_is_heard_again_after_others_took_it():
    """As TensorFlow's servers do, beneath Python."""
    with command_line.stop_signals():
        ctypes.CDLL(None).signal(int(signal.SIGTERM), ctypes.c_void_p(1))  # SIG_IGN
        os.kill(os.getpid(), signal.SIGTERM)
        command_line.hear_signals_again()
        with pytest.raises(command_line.Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
    command_line.hear_signals_again()  # of somebody else: left alone
    assert signal.getsignal(signal.SIGTERM) is not command_line.stop_request


def train(number, step, argv):
    """The command of a worker, which sends itself a signal in a step."""
    original = divergence.DivergenceGuard.on_train_batch_end

    def hooked(self, batch, logs=None):
        if self.model.step == step:
            os.kill(os.getpid(), number)
        original(self, batch, logs)

    divergence.DivergenceGuard.on_train_batch_end = hooked
    return command_line.run(pretrain.main, argv)


def start(function, *arguments, index, ports):
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
    return Forked(function, *arguments, TF_CONFIG=json.dumps(config))


def free_ports(count):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def run(sources):
    """`run(folder, number, step, who)`: two workers, of which `who` signals itself in a step."""

    def run(folder, number=0, step=-1, who=1):
        ports = free_ports(2)
        argv = arguments(sources, f"--output_dir={folder}", *FLAGS)
        steps = [step if index == who else -1 for index in range(2)]
        workers = [
            start(train, number, steps[index], argv, index=index, ports=ports) for index in range(2)
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
    one = finished(*[flag.removeprefix("--variant=") for flag in FLAGS])
    assert len(metrics_rows(unbroken)) == 3
    for ours, theirs in zip(metrics_rows(unbroken), metrics_rows(one), strict=True):
        assert set(ours) == set(theirs)
        for name in theirs:
            assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-4, abs=1e-6)
    found, expected = checkpoint_values(unbroken), checkpoint_values(one)
    assert set(found) == set(expected)
    for name, value in expected.items():
        if name.startswith("metrics"):
            continue  # a checkpoint holds their sums over the workers, of which each has a part
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
    # One of them wrote: as many files of each name as one process writes.
    names = [
        sorted(name.rpartition("/")[2].partition(".tfevents")[0] for name in files_below(folder))
        for folder in (unbroken, one)
    ]
    assert names[0] == names[1] and names[0].count("events.out") == 2  # training and validation


@pytest.mark.parametrize("killed", [slow([0]), thorough([1, 0])])
def test_stopped_and_killed_workers_end_the_same(run, unbroken, tmp_path, killed):
    """A signal to one, and in the restart the chief is killed, or first the other one."""
    folder = tmp_path / "run"
    for status, errors in run(folder, signal.SIGTERM, 3):
        assert status == EXIT_STOPPED, errors[-3000:]
        assert "stopped: at step 3, saved in" in errors

    for who, began in zip(killed, (3, 4), strict=False):
        results = run(folder, signal.SIGKILL, 6, who)
        assert results[who][0] == -signal.SIGKILL
        status, errors = results[1 - who]
        assert status == EXIT_STOPPED, errors[-3000:]
        assert f"resumed at step {began} of 10" in errors
        line = [line for line in errors.splitlines() if line.startswith("stopped: ")]
        assert len(line) == 1 and f"worker {1 - who} of 2 has lost another worker" in line[0]
        assert "run the same command again on every machine" in line[0]
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


# --- upstream -------------------------------------------------------------------------------------


def fit_plainly():
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=tf.distribute.experimental.CommunicationImplementation.RING
    )
    strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    dataset = tf.data.Dataset.from_tensor_slices((np.ones((8, 3)), np.ones((8, 1)))).batch(4)
    model.fit(dataset, epochs=1, verbose=0)


@pytest.mark.slow
def test_keras_own_fit_still_fails_there():
    """When it no longer does, `BaseTrainer._maybe_symbolic_build` and `_make_function` may go.

    keras#20585; the function of steps is then only needed for the probing step.
    """
    ports = free_ports(2)
    workers = [start(fit_plainly, index=index, ports=ports) for index in range(2)]
    for status, errors in [worker.end() for worker in workers]:
        assert status == 1 and "PerReplica" in errors, "Keras' fit works: see the docstring"
