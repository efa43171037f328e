"""`--profile=START,STOP`: which steps are traced."""

import contextlib
import types

import pytest

from keras_vitbert.inspection import callbacks
from keras_vitbert.inspection.callbacks import Profile
from keras_vitbert.runs.run_folder import RunFolder
from pipelines.command_line import EXIT_DONE
from tests.keras_vitbert.tiny_runs import pretrain


@pytest.fixture
def profiler(monkeypatch):
    """What is asked of TensorFlow's profiler, in order."""
    events, traced = [], callbacks.tf.profiler.experimental

    @contextlib.contextmanager
    def trace(name, step_num, _r):
        events.append(step_num)
        yield
        events.append("end")

    monkeypatch.setattr(traced, "start", lambda folder: events.append("start"))
    monkeypatch.setattr(traced, "stop", lambda: events.append("stop"))
    monkeypatch.setattr(traced, "Trace", trace)
    return events


@pytest.mark.parametrize(
    ("begin", "executed", "expected"),
    [
        (0, 1, ["start", 3, "end", 4, "end", 5, "end", "stop"]),
        (0, 2, ["start", 3, "end", 5, "end", "stop"]),
        (3, 1, ["start", 4, "end", 5, "end", "stop"]),  # resumed amid them
        (5, 1, []),  # and behind them
    ],
)
def test_steps_that_are_traced(tmp_path, profiler, capsys, begin, executed, expected):
    with Profile(3, 5, RunFolder(str(tmp_path))) as profile:
        profile.set_model(types.SimpleNamespace(step=begin, steps_per_execution=executed))
        profile.on_train_begin()
        while profile.model.step < 8:
            profile.on_train_batch_begin(0)
            profile.model.step += executed
            profile.on_train_batch_end(0)
        profile.on_train_begin()  # of another call of `fit`
    assert profiler == expected
    assert ("no profile" in capsys.readouterr().err) == (not expected)


@pytest.mark.slow
def test_a_run_leaves_its_trace(sources, tmp_path):
    flags = sources, tmp_path / "run", "--variant=vit"
    assert pretrain(*flags, "--profile=5,6") == EXIT_DONE
    [trace] = (tmp_path / "run" / "train" / "plugins" / "profile").rglob("*.xplane.pb")
    content = trace.read_bytes()
    assert b"/host:CPU" in content and b"train" in content and b"step_num" in content
