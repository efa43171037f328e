import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import tensorflow as tf

from pipelines import command_line
from pipelines.prepare import job_output, job_workers, worker_arguments
from pipelines.prepare.shard_job import run_job
from pipelines.prepare.worker_arguments import WorkerArguments, parse_worker_arguments
from pipelines.shards.shard_manifest import read_manifest
from tests.pipelines.prepare.counting_job import CountingJob, content, expected

BEAM_IN_THIS_PROCESS = "apache_beam.runners.direct.direct_runner.BundleBasedDirectRunner"


@pytest.fixture
def workers_in_this_process(monkeypatch):
    """Replaces worker processes, which take seconds to load TensorFlow; the rest is as it is."""

    def call(task, items, workers):
        used.append(workers)
        try:
            for item in items:
                task(item)
        except Exception as error:
            raise pickle.loads(pickle.dumps(error)) from error

    used = []
    monkeypatch.setattr(job_workers, "call_in_processes", call)
    return used


@pytest.mark.parametrize(
    ("argument", "workers"),
    [("--direct_num_workers=3", [3]), ("--direct_num_workers=9", [5]), ("--runner=direct", [4])],
)
def test_how_many_processes_work(tmp_path, monkeypatch, workers_in_this_process, argument, workers):
    monkeypatch.setattr(worker_arguments, "available_cores", lambda: 4)
    prefix = str(tmp_path / "out")
    counts = run_job(CountingJob(), prefix, 5, parse_worker_arguments([argument]))
    assert workers_in_this_process == workers
    assert counts == {"records": 15, "tokens": 100, "lines": 15}
    assert content(prefix) == expected(5)
    assert [entry["records"] for entry in read_manifest(prefix)["shards"]] == [1, 2, 3, 4, 5]


def test_one_shard_needs_no_processes(tmp_path, workers_in_this_process):
    run_job(CountingJob(), str(tmp_path / "out"), 1, WorkerArguments(3))
    assert workers_in_this_process == []


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("in.txt: bad"), ValueError, "^in.txt: bad$"),
        (OSError(28, "full"), OSError, "full.*out-00002-of-00005"),
        (tf.errors.DataLossError(None, None, "torn"), tf.errors.DataLossError, "torn"),
    ],
)
def test_an_error_in_a_worker_comes_out(tmp_path, workers_in_this_process, error, kind, message):
    prefix = str(tmp_path / "out")
    with pytest.raises(kind, match=message):
        run_job(CountingJob(failing={2: error}), prefix, 5, WorkerArguments(2))
    assert sorted(content(prefix)) == sorted(expected(5))[:2]
    assert run_job(CountingJob(), prefix, 5, WorkerArguments(2))["tokens"] == 100
    assert content(prefix) == expected(5)


def test_beam_makes_the_same(tmp_path):
    prefix = str(tmp_path / "out")
    runner = parse_worker_arguments([f"--runner={BEAM_IN_THIS_PROCESS}"])
    with pytest.raises(ValueError, match="in.txt: bad"):
        run_job(CountingJob(failing={2: ValueError("in.txt: bad")}), prefix, 3, runner)
    assert run_job(CountingJob(), prefix, 3, runner)["tokens"] == 30
    assert content(prefix) == expected(3)


def test_a_job_elsewhere_that_ends_too_early_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(job_workers, "_make_by_beam", lambda *_: None)  # as if it were cancelled
    prefix = str(tmp_path / "out")
    with pytest.raises(ValueError, match="out: 3 shards were not made"):
        run_job(CountingJob(), prefix, 3, WorkerArguments(0, "DataflowRunner"))
    assert read_manifest(prefix) is None


@pytest.mark.slow
def test_beam_takes_jobs_that_are_defined_in_the_module_that_runs(tmp_path):
    from apache_beam.internal import pickler

    output = job_output.JobOutput(str(tmp_path / "out"), {"shards": 1})
    os.mkdir(output.folder)
    program = f"""if True:
        import functools, sys
        from apache_beam.internal import pickler
        from pipelines.prepare import job_output, job_workers
        from tests.pipelines.prepare.counting_job import CountingJob
        class Job(CountingJob):
            def settings(self):
                return "of __main__"
        output = job_output.{output}
        task = functools.partial(job_workers._make_shard, Job(), output)
        sys.stdout.buffer.write(pickler.dumps(task))
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    task = pickler.loads(done.stdout)
    assert task.args[0].settings() == "of __main__"
    task(0)
    assert content(output.prefix) == expected(1)


# The module that a user runs: its job is defined in `__main__`. It does what the file `do` says.
SCRIPT = """
    import dataclasses, glob, os, signal, sys, time
    from pipelines import command_line
    from pipelines.prepare.shard_job import ShardJob, run_job
    from pipelines.prepare.worker_arguments import parse_worker_arguments

    @dataclasses.dataclass(frozen=True)
    class Part:
        text: bytes

    @dataclasses.dataclass(frozen=True)
    class Job(ShardJob):
        folder: str
        parts: tuple[Part, ...]
        kind, unit = "documents", "tokens"
        made = 0  # by this process

        def settings(self):
            return {}

        def write_shard(self, shard, shards, file):
            for part in self.parts:
                file.write(part.text * shard)
            open(f"{self.folder}/pid-{os.getpid()}", "w").close()
            while len(glob.glob(f"{self.folder}/pid-*")) < 2:
                time.sleep(0.01)  # until the other worker has a part too, however late it starts
            do = open(f"{self.folder}/do").read()
            Job.made += 1
            if Job.made == 2 and do != "work":
                file.write(b"x" * 5_000_000)  # so that there is half a file
                if do == "die":
                    os.kill(os.getpid(), signal.SIGKILL)
                open(f"{self.folder}/waiting-{os.getpid()}", "w").close()
                time.sleep(60)
            return {"tokens": shard}, []

    def main(argv):
        folder, _, *workers = argv
        job = Job(folder, (Part(b"one"), Part(b"two")))
        run_job(job, f"{folder}/out/out", 8, parse_worker_arguments(workers))

    if __name__ == "__main__":
        sys.exit(command_line.run(main))
"""


WHOLE = {f"out-{s:05d}-of-00008": b"one" * s + b"\n" + b"two" * s + b"\n" for s in range(8)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the module `shard_job_command`, and a Beam that cannot be imported."""
    (tmp_path / "shard_job_command.py").write_text(textwrap.dedent(SCRIPT))
    (tmp_path / "apache_beam.py").write_text("raise ImportError")
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("shard_job_command", None)


def check_nothing_is_left(folder):
    pids = [int(path.name.removeprefix("pid-")) for path in folder.glob("pid-*")]
    assert len(pids) == 2  # both workers had a part
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    assert not list((folder / "out").glob("*.tmp-*"))


@pytest.mark.slow
def test_a_command_that_is_stopped_and_one_process_that_goes_on(folder, capfd):
    (folder / "do").write_text("wait")
    process = subprocess.Popen(
        [sys.executable, "-m", "shard_job_command", folder, "--", "--direct_num_workers=2"],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.getcwd()])},
        start_new_session=True,
        text=True,
    )
    deadline = time.monotonic() + 100
    while len(list(folder.glob("waiting-*"))) < 2:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    assert len(list((folder / "out").glob("out-*.tmp-*"))) == 2
    os.killpg(process.pid, signal.SIGINT)  # Ctrl-C: the terminal sends it to the workers too
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 75
    assert errors.splitlines()[-1] == "stopped: by SIGINT; run the same command again"
    assert "Traceback" not in errors
    check_nothing_is_left(folder)
    made = content(folder / "out" / "out")
    assert len(made) == 2 and made.items() < WHOLE.items()
    times = {name: os.stat(folder / "out" / name).st_mtime_ns for name in made}

    from shard_job_command import main

    (folder / "do").write_text("work")
    main([str(folder), "--", "--direct_num_workers=1"])
    assert content(folder / "out" / "out") == WHOLE
    assert {name: os.stat(folder / "out" / name).st_mtime_ns for name in made} == times
    assert read_manifest(folder / "out" / "out")["counts"] == {"records": 16, "tokens": 28}


@pytest.mark.slow
def test_a_worker_that_dies_and_two_processes_that_go_on(folder, capfd):
    from shard_job_command import main

    arguments = [str(folder), "--", "--direct_num_workers=2"]
    (folder / "do").write_text("die")
    assert command_line.run(main, arguments) == 2
    errors = capfd.readouterr().err
    assert errors.splitlines()[-1].startswith("error: a worker process ended before its work was ")
    assert "Traceback" not in errors
    check_nothing_is_left(folder)
    made = content(folder / "out" / "out")
    assert 1 <= len(made) < 8 and made.items() < WHOLE.items()

    (folder / "do").write_text("work")
    for path in folder.glob("pid-*"):
        path.unlink()
    assert command_line.run(main, arguments) == 0
    assert "/out/out: 8 shards, 28 tokens, " in capfd.readouterr().err.splitlines()[-1]
    check_nothing_is_left(folder)
    assert content(folder / "out" / "out") == WHOLE
