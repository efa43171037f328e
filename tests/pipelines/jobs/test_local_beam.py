"""Worker processes: what they make, and how they end. Each takes seconds to start.

The quick tests have only their connections to the parent.
"""

import multiprocessing.connection
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time

import pytest

from pipelines.command_line import Stopped, stop_signals
from pipelines.jobs import local_beam
from pipelines.shards.shard_manifest import read_manifest
from tests.pipelines.jobs.counting_job import ONE_PROCESS, content


@pytest.fixture
def lifelines():
    lifelines = local_beam._Lifelines()
    yield lifelines
    lifelines.cut()


def connect(lifelines, key=None):
    """A worker's end of a connection to the parent, who has noticed it."""
    before = len(lifelines._connections)
    key = lifelines._key if key is None else key
    worker = multiprocessing.connection.Client(lifelines._listener.address, authkey=key.encode())
    _wait_for(lambda: len(lifelines._connections) > before)
    return worker


def test_a_worker_that_ends_without_a_word_has_died(lifelines):
    with connect(lifelines), connect(lifelines) as other:
        lifelines.watch(0)
        other.close()
        with pytest.raises(local_beam.WorkerDied):
            lifelines.watch(60)


def test_a_worker_may_end_when_it_says_that_it_is_done(lifelines):
    with connect(lifelines) as worker:
        worker.send("done")
        lifelines.watch(60)
    started = time.monotonic()
    lifelines.watch(0.2)  # nobody is left to be watched
    assert time.monotonic() - started > 0.1


def test_strangers_are_turned_away(lifelines):
    with pytest.raises(multiprocessing.AuthenticationError):
        connect(lifelines, "guessed")
    with connect(lifelines):  # others can still connect
        assert len(lifelines._connections) == 1


def test_workers_are_told_to_end_and_waited_for(lifelines):
    told, workers = [], [connect(lifelines) for _ in range(2)]

    def work(worker):
        told.append(worker.recv())
        time.sleep(0.2)
        told.append("ended")
        worker.close()

    for worker in workers:
        threading.Thread(target=work, args=(worker,)).start()
    lifelines.cut()
    assert sorted(told) == ["end", "end", "ended", "ended"]


# The module that a user runs: its job is defined in `__main__`. It does what the file `do` says.
SCRIPT = """
    import dataclasses, os, signal, sys, time
    from pipelines import command_line
    from pipelines.shards.shard_files import LineFile
    from pipelines.jobs.shard_job import ShardJob, run_job, split_beam_arguments

    @dataclasses.dataclass(frozen=True)
    class Part:
        text: bytes

    @dataclasses.dataclass(frozen=True)
    class Job(ShardJob):
        folder: str
        parts: tuple[Part, ...]
        kind = "documents"
        made = 0  # by this process

        def settings(self):
            return {}

        def open(self, path):
            return LineFile(path)

        def write_shard(self, shard, shards, file):
            for part in self.parts:
                file.write(part.text * shard)
            open(f"{self.folder}/pid-{os.getpid()}", "w").close()
            time.sleep(0.3)  # so that both workers have a part
            do = open(f"{self.folder}/do").read()
            Job.made += 1
            if Job.made == 2 and do == "fail":
                raise command_line.UserError("in.txt:\\n is bad")
            if Job.made == 2 and do == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if Job.made == 2 and do == "wait":
                file.write(b"x" * 5_000_000)  # so that there is half a file
                open(f"{self.folder}/waiting-{os.getpid()}", "w").close()
                time.sleep(60)
            return {"tokens": shard}, []

    def main(argv):
        own, beam = split_beam_arguments(argv)
        run_job(Job(own[0], (Part(b"one"), Part(b"two"))), f"{own[0]}/out/out", 8, beam)

    if __name__ == "__main__":
        sys.exit(command_line.run(main))
"""


WHOLE = {f"out-{s:05d}-of-00008": b"one" * s + b"\n" + b"two" * s + b"\n" for s in range(8)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the module `shard_job_command`, and the temporary folder of all processes."""
    (tmp_path / "shard_job_command.py").write_text(textwrap.dedent(SCRIPT))
    (tmp_path / "tmp").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    yield tmp_path
    sys.modules.pop("shard_job_command", None)


def _start(folder, do):
    """Starts the command in a process of its own."""
    (folder / "do").write_text(do)
    command = [sys.executable, "-m", "shard_job_command", str(folder), "--"]
    return subprocess.Popen(
        [*command, "--direct_num_workers=2"],
        stderr=subprocess.PIPE,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(folder), os.getcwd()]),
            "TMPDIR": str(folder / "tmp"),
        },
        start_new_session=True,
        text=True,
    )


def _wait_for(condition, seconds=100):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _both_wait(folder):
    return len(list(folder.glob("waiting-*"))) == 2


def _check_nothing_is_left(folder):
    pids = [int(path.name.removeprefix("pid-")) for path in folder.glob("pid-*")]
    assert len(pids) == 2  # both workers had a part
    _wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), 20)
    assert list((folder / "tmp").iterdir()) == []
    assert list((folder / "out").glob("*.tmp-*")) == []


@pytest.mark.slow
def test_two_processes_that_are_stopped_and_one_that_goes_on(folder):
    from shard_job_command import main

    def stop():
        _wait_for(lambda: _both_wait(folder))
        os.kill(os.getpid(), signal.SIGINT)

    (folder / "do").write_text("wait")
    with pytest.raises(Stopped, match="by SIGINT"), stop_signals():
        threading.Thread(target=stop).start()
        main([str(folder), "--", "--direct_num_workers=2"])
    _check_nothing_is_left(folder)
    made = content(folder / "out" / "out")
    assert len(made) == 2 and made.items() < WHOLE.items()
    times = {name: os.stat(folder / "out" / name).st_mtime_ns for name in made}

    (folder / "do").write_text("work")
    main([str(folder), "--", *ONE_PROCESS])
    assert content(folder / "out" / "out") == WHOLE
    assert {name: os.stat(folder / "out" / name).st_mtime_ns for name in made} == times
    assert read_manifest(folder / "out" / "out")["counts"] == {"records": 16, "tokens": 28}


@pytest.mark.slow
@pytest.mark.parametrize(
    "do, status, message",
    [
        ("work", 0, "/out/out: 8 shards, 28 tokens, "),
        ("fail", 2, "error: in.txt: is bad"),
        ("die", 2, "error: a worker process ended before its work was done, perhaps for want of"),
        ("wait", 75, "stopped: by SIGINT; run the same command again"),
    ],
)
def test_commands_with_two_processes(folder, do, status, message):
    process = _start(folder, do)
    if do == "wait":
        _wait_for(lambda: _both_wait(folder))
        os.killpg(process.pid, signal.SIGINT)  # Ctrl-C: the terminal sends it to the workers too
    _, errors = process.communicate(timeout=120)
    assert process.returncode == status
    assert message in errors.splitlines()[-1]
    assert "Traceback" not in errors
    _check_nothing_is_left(folder)
    made = content(folder / "out" / "out")
    assert made.items() <= WHOLE.items()
    assert made == WHOLE if do == "work" else 1 <= len(made) < 8


@pytest.mark.slow
def test_workers_end_with_the_command_that_is_killed(folder):
    process = _start(folder, "wait")
    _wait_for(lambda: _both_wait(folder))
    process.kill()
    process.communicate(timeout=60)
    pids = [int(path.name.removeprefix("pid-")) for path in folder.glob("pid-*")]
    _wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), 20)
