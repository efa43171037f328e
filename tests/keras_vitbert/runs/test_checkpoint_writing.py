"""Checkpoints beside training, of a small stand-in for a trainer."""

import threading
import types

import numpy as np
import pytest

from keras_vitbert.runs import checkpoints
from keras_vitbert.runs.callbacks import Checkpoints
from pipelines.command_line import Diverged
from pipelines.files import write_atomically
from tests.keras_vitbert.runs.plain_trainer import Trainer


def keeper(folder, is_chief=True):
    """The callback, which keeps two checkpoints in a folder."""
    workers = types.SimpleNamespace(is_chief=is_chief, wait=lambda: None)
    config = types.SimpleNamespace(checkpoints_to_keep=2)
    folder = types.SimpleNamespace(checkpoints=str(folder))
    return Checkpoints(types.SimpleNamespace(config=config, folder=folder, workers=workers))


@pytest.fixture
def gate(monkeypatch):
    """While it is closed, no checkpoint is finished."""
    gate = threading.Event()

    def write(path, text):
        assert gate.wait(60)
        write_atomically(path, text)

    monkeypatch.setattr(checkpoints, "write_atomically", write)
    yield gate
    gate.set()


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path, gate):
    trainer = Trainer()
    with keeper(tmp_path) as writer:
        for _ in range(3):
            trainer.train()
        expected = trainer.copies()
        writer.save(trainer)
        for _ in range(5):
            trainer.train()
            writer.check()
        assert checkpoints.latest(str(tmp_path)) == (None, 0)  # the pointer comes last
        with keeper(tmp_path, is_chief=False) as other:  # writes nothing
            other.save(trainer)
            other.wait()
        gate.set()
        writer.wait()
        path, step = checkpoints.latest(str(tmp_path))
        assert step == 3 and trainer.step == 8
    fresh = Trainer()
    checkpoints.restore(path, fresh)
    for value, wanted, later in zip(fresh.values, expected, trainer.values, strict=True):
        np.testing.assert_array_equal(value, wanted)
        np.testing.assert_allclose(later, wanted + 5, rtol=1e-6)


@pytest.mark.parametrize("how", ["save", "end"])
def test_a_failure_is_told_at_the_next_chance(tmp_path, monkeypatch, how):
    def full(path, text):
        raise OSError(28, "No space left on device")

    trainer = Trainer()
    monkeypatch.setattr(checkpoints, "write_atomically", full)
    with pytest.raises(OSError, match="No space left"), keeper(tmp_path) as writer:
        writer.save(trainer)
        if how == "save":
            writer.save(trainer)
            pytest.fail("no error")
    assert checkpoints.latest(str(tmp_path)) == (None, 0)


def test_another_error_is_not_hidden_and_the_checkpoint_is_awaited(tmp_path, gate):
    trainer = Trainer()
    threading.Timer(0.3, gate.set).start()
    with pytest.raises(Diverged), keeper(tmp_path) as writer:
        writer.save(trainer)
        raise Diverged("a bad step")
    assert checkpoints.latest(str(tmp_path)) == (str(tmp_path / "step-00000000"), 0)


def test_unfinished_files_of_a_killed_run_go_with_the_next_checkpoint(tmp_path):
    """TensorFlow's, and those of `write_atomically`; what a user has put there stays."""
    folder = tmp_path / "step-00000000"
    folder.mkdir()
    for name in ("state.data-00000-of-00001.tempstate12345", "step.json.tmp-0a1b", "tmp-notes.txt"):
        (folder / name).write_text("unfinished")
    (tmp_path / "LAST.tmp-0a1b").write_text("unfinished")
    checkpoints.write(str(tmp_path), checkpoints.snapshot(Trainer()), keep=1)
    assert {path.name for path in tmp_path.iterdir()} == {"LAST", "step-00000000"}
    wanted = {"state.data-00000-of-00001", "state.index", "step.json", "tmp-notes.txt"}
    assert {path.name for path in folder.iterdir()} == wanted
