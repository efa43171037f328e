"""Worker processes: what they are given, and how they end. These do not load TensorFlow."""

import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool

import pytest

from pipelines.command_line import Stopped, stop_signals
from pipelines.prepare.local_workers import call_in_processes


def work(folder, behaviour, item):
    """Notes which process has begun the item. One process may go wrong at its second item.

    The others wait then.
    """
    path = folder / f"pid-{os.getpid()}"
    second = path.exists()
    with open(path, "a") as file:
        file.write(f"{item}\n")
    while len(pids(folder)) < 2:  # both workers have a part
        time.sleep(0.01)
    if not second or behaviour == "work":
        return
    with contextlib.suppress(FileExistsError):
        if behaviour != "wait":
            (folder / "wrong").touch(exist_ok=False)
        if behaviour == "fail":
            raise ValueError(f"{item} is bad")
        if behaviour == "die":
            os.kill(os.getpid(), signal.SIGKILL)
    (folder / f"waiting-{os.getpid()}").touch()
    time.sleep(60)


def begun(folder):
    return [int(item) for path in folder.glob("pid-*") for item in path.read_text().split()]


def pids(folder):
    return [path.name.removeprefix("pid-") for path in folder.glob("pid-*")]


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def none_is_left(folder):
    return len(pids(folder)) == 2 and not any(os.path.exists(f"/proc/{p}") for p in pids(folder))


def test_each_item_is_given_to_one_worker(tmp_path):
    environment, threads = dict(os.environ), threading.active_count()
    call_in_processes(functools.partial(work, tmp_path, "work"), range(50), 2)
    assert sorted(begun(tmp_path)) == list(range(50))
    assert none_is_left(tmp_path)
    assert os.environ == environment and threading.active_count() == threads
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGINT, signal.SIGTERM}


@pytest.mark.parametrize(
    ("behaviour", "kind", "message"),
    [("fail", ValueError, r"^\d+ is bad$"), ("die", BrokenProcessPool, None)],
)
def test_the_first_failure_ends_all(tmp_path, behaviour, kind, message):
    with pytest.raises(kind, match=message) as failure:
        call_in_processes(functools.partial(work, tmp_path, behaviour), range(50), 2)
    assert none_is_left(tmp_path)
    assert len(begun(tmp_path)) <= 5  # the others were not begun
    if behaviour == "fail":
        assert "in work\n    raise ValueError" in str(failure.value.__cause__)


def test_workers_have_one_thread_each_and_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # the user's choice
    call_in_processes(write_environment, [tmp_path / "a"], 1)
    assert (tmp_path / "a").read_text() == "-1 1 1 3"


def write_environment(path):
    names = "CUDA_VISIBLE_DEVICES TF_NUM_INTRAOP_THREADS TF_NUM_INTEROP_THREADS OMP_NUM_THREADS"
    path.write_text(" ".join(os.environ[name] for name in names.split()))


def test_a_signal_is_heard_at_once(tmp_path):
    def stop():
        wait_for(lambda: len(list(tmp_path.glob("waiting-*"))) == 2)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped, match="by SIGTERM"), stop_signals():
        threading.Thread(target=stop).start()
        call_in_processes(functools.partial(work, tmp_path, "wait"), range(50), 2)
    assert none_is_left(tmp_path)


@contextlib.contextmanager
def command(folder):
    """A command whose workers both wait, in a process group of its own."""
    code = (
        f"from pipelines.command_line import run; from {__name__} import *; "
        "import pathlib; "
        f"task = functools.partial(work, pathlib.Path({str(folder)!r}), 'wait'); "
        "sys.exit(run(lambda argv: call_in_processes(task, range(50), 2)))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, start_new_session=True, text=True
    ) as process:
        wait_for(lambda: len(list(folder.glob("waiting-*"))) == 2)
        yield process


def test_ctrl_c_reaches_the_workers_too_and_only_the_parent_speaks(tmp_path):
    with command(tmp_path) as process:
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(timeout=60)[1] == (
            "stopped: by SIGINT; run the same command again\n"
        )
    assert process.returncode == 75
    assert none_is_left(tmp_path)


def test_workers_end_with_a_command_that_is_killed(tmp_path):
    with command(tmp_path) as process:
        process.kill()
    wait_for(lambda: none_is_left(tmp_path))
