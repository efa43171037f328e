import dataclasses
import glob
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from typing import ClassVar

import pytest
import tensorflow as tf

from pipelines.command_line import Stopped, UserError, stop_signals
from pipelines.jobs import job_output, job_progress, job_workers, local_beam
from pipelines.jobs.shard_job import ShardJob, run_job, split_beam_arguments
from pipelines.shards.shard_files import LineFile
from pipelines.shards.shard_manifest import read_manifest

ONE_PROCESS = ["--direct_num_workers=1"]


@dataclasses.dataclass(frozen=True)
class CountingJob(ShardJob):
    """Shard s holds s + 1 lines; those in `bad` have damage, those in `failing` an error."""

    step: int = 1
    bad: tuple[int, ...] = ()
    failing: dict = dataclasses.field(default_factory=dict)
    made: list = dataclasses.field(default_factory=list)
    kind: ClassVar[str] = "documents"

    def settings(self):
        return {"step": self.step, "pair": (1, 2)}

    def open(self, path):
        return LineFile(path)

    def write_shard(self, shard, shards, file):
        self.made.append(shard)
        for number in range(shard + 1):
            file.write(b"%d" % (number * self.step))
        if shard in self.failing:
            raise self.failing[shard]
        damaged = [{"file": f"in{shard}.txt", "record": 7, "reason": "torn"}] * (shard in self.bad)
        return {"tokens": 10 * shard, "lines": shard + 1}, damaged


def _content(prefix):
    return {os.path.basename(path): open(path, "rb").read() for path in glob.glob(f"{prefix}-*")}


def _expected(shards, step=1):
    return {
        f"out-{shard:05d}-of-{shards:05d}": b"".join(b"%d\n" % (n * step) for n in range(shard + 1))
        for shard in range(shards)
    }


def test_shards_and_manifest(tmp_path, capfd):
    prefix = str(tmp_path / "new" / "folder" / "out")
    counts = run_job(CountingJob(), prefix, 3, ONE_PROCESS, vocabulary_sha256="abc")
    assert counts == {"records": 6, "tokens": 30, "lines": 6}
    assert _content(prefix) == _expected(3)
    manifest = read_manifest(prefix)
    assert manifest["kind"] == "documents"
    assert manifest["counts"] == counts
    assert manifest["settings"] == {"step": 1, "pair": [1, 2]}
    assert manifest["vocabulary_sha256"] == "abc"
    assert manifest["damaged"] == []
    assert [entry["name"] for entry in manifest["shards"]] == sorted(_expected(3))
    assert [entry["records"] for entry in manifest["shards"]] == [1, 2, 3]
    assert sorted(os.listdir(tmp_path / "new" / "folder")) == [
        *sorted(_expected(3)),
        "out.manifest.json",
    ]
    assert f"{prefix}: 3 shards, 30 tokens, 0 s" in capfd.readouterr().err


def test_complete_output_is_left_alone(tmp_path, capfd):
    prefix = str(tmp_path / "out")
    counts = run_job(CountingJob(), prefix, 3, ONE_PROCESS)
    capfd.readouterr()
    job = CountingJob()
    assert run_job(job, prefix, 3, ONE_PROCESS) == counts
    assert job.made == []
    assert capfd.readouterr().err == f"{prefix}: is complete, nothing to do\n"
    for other, shards, sha256, message in (
        (CountingJob(step=2), 3, None, "step=1 and not 2"),
        (CountingJob(), 4, None, "shards=3 and not 4"),
        (CountingJob(), 3, "abc", 'vocabulary_sha256=null and not "abc"'),
    ):
        with pytest.raises(UserError, match=f"out.manifest.json: is of data with {message}; give"):
            run_job(other, prefix, shards, ONE_PROCESS, vocabulary_sha256=sha256)
    os.remove(f"{prefix}-00001-of-00003")
    with pytest.raises(UserError, match="out-00001-of-00003: is missing or not as written"):
        run_job(CountingJob(), prefix, 3, ONE_PROCESS)


def test_an_unfinished_run_goes_on(tmp_path, capfd):
    prefix = str(tmp_path / "out")
    with pytest.raises(UserError, match="in.txt: bad"):
        run_job(CountingJob(failing={2: UserError("in.txt: bad")}), prefix, 4, ONE_PROCESS)
    assert sorted(_content(prefix)) == sorted(_expected(4))[:2]
    assert read_manifest(prefix) is None
    # What a run that was killed may leave.
    (tmp_path / "out-00002-of-00004.tmp-0123").write_bytes(b"half")
    (tmp_path / "out-00003-of-00004").write_bytes(b"of another run")
    (tmp_path / "out-train-00002-of-00004.tmp-0123").write_bytes(b"of another prefix")
    os.remove(tmp_path / "out-00000-of-00004")
    (tmp_path / "out.progress" / "00002.json").write_text('{"entry": {"na')
    capfd.readouterr()

    with pytest.raises(UserError, match="unfinished run has step=1 and not 2; .*out.progress"):
        run_job(CountingJob(step=2), prefix, 4, ONE_PROCESS)
    with pytest.raises(UserError, match="unfinished run has shards=4 and not 5"):
        run_job(CountingJob(), prefix, 5, ONE_PROCESS)
    job = CountingJob()
    assert run_job(job, prefix, 4, ONE_PROCESS)["tokens"] == 60
    assert job.made == [0, 2, 3]
    (tmp_path / "out-train-00002-of-00004.tmp-0123").unlink()
    assert _content(prefix) == _expected(4)
    assert not glob.glob(str(tmp_path / "*.progress"))
    assert f"{prefix}: 1 of 4 shards are there" in capfd.readouterr().err


def test_a_note_of_other_settings_is_not_taken(tmp_path):
    prefix = str(tmp_path / "out")
    with pytest.raises(UserError):
        run_job(CountingJob(failing={2: UserError("in.txt: bad")}), prefix, 3, ONE_PROCESS)
    note = tmp_path / "out.progress" / "00001.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "settings_sha256": "0"}))
    job = CountingJob()
    run_job(job, prefix, 3, ONE_PROCESS)
    assert job.made == [1, 2]


def test_remote_files(capfd):
    """`ram://` is TensorFlow's other file system at hand: `open` does not know it."""
    prefix = "ram://folder/deeper/out"
    with pytest.raises(UserError, match="in.txt: bad"):
        run_job(CountingJob(failing={2: UserError("in.txt: bad")}), prefix, 3, ONE_PROCESS)
    job = CountingJob()
    run_job(job, prefix, 3, ONE_PROCESS)
    assert job.made == [2]
    assert read_manifest(prefix)["counts"] == {"records": 6, "tokens": 30, "lines": 6}
    with tf.io.gfile.GFile(f"{prefix}-00002-of-00003", "rb") as file:
        assert file.read() == b"0\n1\n2\n"
    assert not tf.io.gfile.exists(f"{prefix}.progress/00002.json")


def test_settings_of_a_run_that_made_nothing_may_be_mended(tmp_path):
    prefix = str(tmp_path / "out")
    with pytest.raises(UserError, match="in.txt: bad"):
        run_job(CountingJob(failing={0: UserError("in.txt: bad")}), prefix, 4, ONE_PROCESS)
    run_job(CountingJob(step=2), prefix, 2, ONE_PROCESS)
    assert _content(prefix) == _expected(2, step=2)


def test_damaged_inputs_are_counted_over_all_shards(tmp_path, capfd):
    prefix = str(tmp_path / "out")
    with pytest.raises(
        UserError, match="^in1.txt: record 7: torn; 2 damaged in all: .* --max_bad_records=2 "
    ):
        run_job(CountingJob(bad=(3, 1)), prefix, 4, ONE_PROCESS, max_bad_records=1)
    assert read_manifest(prefix) is None
    job = CountingJob(bad=(3, 1))
    run_job(job, prefix, 4, ONE_PROCESS, max_bad_records=2)
    assert job.made == []  # what was made is kept
    assert [entry["file"] for entry in read_manifest(prefix)["damaged"]] == ["in1.txt", "in3.txt"]
    assert "2 damaged inputs were left out; they are listed in" in capfd.readouterr().err


def test_inputs_that_were_mended_are_read_again(tmp_path):
    prefix = str(tmp_path / "out")
    with pytest.raises(UserError, match="2 damaged in all"):
        run_job(CountingJob(bad=(3, 1)), prefix, 4, ONE_PROCESS)
    job = CountingJob(bad=(3,))
    with pytest.raises(UserError, match="^in3.txt: record 7: torn; 1 damaged in all"):
        run_job(job, prefix, 4, ONE_PROCESS)
    assert sorted(job.made) == [1, 3]
    job = CountingJob()
    run_job(job, prefix, 4, ONE_PROCESS)
    assert job.made == [3] and read_manifest(prefix)["damaged"] == []
    assert _content(prefix) == _expected(4)


def test_other_errors_are_shown_as_they_are_and_those_of_the_system_in_one_line(tmp_path):
    prefix = str(tmp_path / "out")
    with pytest.raises(ZeroDivisionError):
        run_job(CountingJob(failing={0: ZeroDivisionError()}), prefix, 2, ONE_PROCESS)
    full = OSError(28, "No space left on device")
    with pytest.raises(UserError, match="out-00000-of-00002: cannot be made .* No space left"):
        run_job(CountingJob(failing={0: full}), prefix, 2, ONE_PROCESS)
    assert _content(prefix) == {}


def test_two_runs_do_not_write_the_same_files(tmp_path):
    prefix = str(tmp_path / "out")

    class Nested(CountingJob):
        def write_shard(self, shard, shards, file):
            with pytest.raises(UserError, match="out: another process is writing it"):
                run_job(CountingJob(), prefix, shards, ONE_PROCESS)
            return super().write_shard(shard, shards, file)

    run_job(Nested(), prefix, 1, ONE_PROCESS)


@pytest.mark.parametrize("prefix", ["folder/", ""])
def test_outputs_need_a_name(tmp_path, monkeypatch, prefix):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"--output={prefix}: is a folder; give the beginning"):
        run_job(CountingJob(), prefix, 1)


def test_cores_are_counted_where_the_system_does_not_say_which_may_be_used(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 6}, raising=False)
    assert job_workers.available_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert job_workers.available_cores() == os.cpu_count()


def test_bad_beam_options(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="--direct_num_workers must be a whole number"):
        run_job(CountingJob(), str(tmp_path / "a"), 2, ["--direct_num_workers=two"])
    with pytest.raises(UserError, match="out: DataflowRunner cannot write there; give a gs://"):
        run_job(CountingJob(), str(tmp_path / "out"), 2, ["--runner=DataflowRunner"])
    with pytest.raises(UserError, match="Beam does not know --no_such_option"):
        run_job(CountingJob(), str(tmp_path / "b"), 2, ["--no_such_option=1"])
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.setitem(sys.modules, "apache_beam.options.pipeline_options", None)
    with pytest.raises(UserError, match=r'pip install "keras-vitbert\[beam\]"'):
        run_job(CountingJob(), str(tmp_path / "c"), 2, ["--direct_num_workers=2"])


def test_beam_arguments_follow_two_dashes():
    assert split_beam_arguments(["--a=1", "--", "--b", "--"]) == (["--a=1"], ["--b", "--"])
    assert split_beam_arguments(["--a=1"]) == (["--a=1"], [])


@pytest.fixture
def beam_in_this_process(monkeypatch):
    """Replaces worker processes, which take seconds to start; the rest is as it is."""
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from apache_beam.testing.test_pipeline import TestPipeline

    def run_local(make_pipeline, options, workers):
        used.append(workers)
        with TestPipeline(FnApiRunner(), options=options) as pipeline:
            make_pipeline(pipeline)

    used = []
    monkeypatch.setattr(local_beam, "run_local", run_local)
    return used


def test_beam_makes_the_same_as_one_process(tmp_path, beam_in_this_process):
    prefix = str(tmp_path / "out")
    counts = run_job(CountingJob(), prefix, 5, ["--direct_num_workers=3"])
    assert beam_in_this_process == [3]
    assert counts == {"records": 15, "tokens": 100, "lines": 15}
    assert _content(prefix) == _expected(5)
    assert [entry["records"] for entry in read_manifest(prefix)["shards"]] == [1, 2, 3, 4, 5]


def test_an_error_in_a_worker_comes_out_as_it_was(tmp_path, beam_in_this_process):
    prefix = str(tmp_path / "out")
    workers = ["--direct_num_workers=9"]
    job = CountingJob(failing={2: UserError("in.txt:\n bad")})
    with pytest.raises(UserError, match="^in.txt: bad$"):
        run_job(job, prefix, 5, workers)
    made = _content(prefix)
    assert len(made) < 5 and "out-00002-of-00005" not in made
    with pytest.raises(RuntimeError, match="shard 2: no way\n(.|\n)*Traceback(.|\n)*write_shard"):
        run_job(CountingJob(failing={2: ValueError("no way")}), str(tmp_path / "b"), 5, workers)
    with pytest.raises(UserError, match="c-00002-of-00005: cannot be made .No space left"):
        run_job(CountingJob(failing={2: OSError("No space left")}), str(tmp_path / "c"), 5, workers)
    assert run_job(CountingJob(), prefix, 5, workers)["tokens"] == 100
    assert _content(prefix) == _expected(5)


def test_other_runners_are_given_the_same_pipeline(tmp_path):
    prefix = str(tmp_path / "out")
    runner = ["--runner=apache_beam.runners.portability.fn_api_runner.fn_runner.FnApiRunner"]
    with pytest.raises(UserError, match="^in.txt: bad$"):
        run_job(CountingJob(failing={2: UserError("in.txt: bad")}), prefix, 3, runner)
    assert run_job(CountingJob(), prefix, 3, runner)["tokens"] == 30
    assert _content(prefix) == _expected(3)


def test_a_worker_elsewhere_leaves_other_errors_to_beam(tmp_path):
    output = job_output.JobOutput(str(tmp_path / "out"), {"shards": 2})
    os.mkdir(output.folder)
    for error, is_local, recorded in (
        (ValueError("x"), False, None),
        (UserError("x"), False, {"error": "x", "traceback": None}),
    ):
        pickled = job_workers._pickle((CountingJob(failing={1: error}), output))
        if recorded is None:
            with pytest.raises(ValueError):
                job_workers._make_shard_of_pickle(pickled, 1, is_local)
        else:
            job_workers._make_shard_of_pickle(pickled, 1, is_local)
        assert output.error() == recorded
    # The error of another worker is the end of the work here.
    job = CountingJob()
    job_workers._make_shard_of_pickle(job_workers._pickle((job, output)), 0)
    assert _content(output.prefix) == {}


def test_progress_lines():
    assert job_progress.line("x", 10, 2, 0, "words", 0, 60.0) == "x: 2 of 10 shards"
    assert job_progress.line("x", 10, 2, 2, "words", 3_000_000, 60.0) == (
        "x: 4 of 10 shards, 3,000,000 words, 50,000 a second, 3 min left"
    )
    assert job_progress.duration(89) == "89 s"
    assert job_progress.duration(5400) == "1 h 30 min"


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
    made = _content(folder / "out" / "out")
    assert len(made) == 2 and made.items() < WHOLE.items()
    times = {name: os.stat(folder / "out" / name).st_mtime_ns for name in made}

    (folder / "do").write_text("work")
    main([str(folder), "--", *ONE_PROCESS])
    assert _content(folder / "out" / "out") == WHOLE
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
    made = _content(folder / "out" / "out")
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


def test_jobs_may_be_defined_in_the_module_that_runs(monkeypatch):
    main = type(sys)("__main__")
    main.__spec__ = type("Spec", (), {"name": __name__})
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__))
    main.CountingJob = type("CountingJob", (CountingJob,), {"__module__": "__main__"})
    pickled = job_workers._pickle(main.CountingJob(step=3))
    module = type(sys)(__name__)
    module.CountingJob = CountingJob
    monkeypatch.setitem(sys.modules, __name__, module)
    job = job_workers._unpickle(*pickled)
    assert type(job) is CountingJob and job.step == 3


def test_the_manifest_is_json_of_one_line_a_shard(tmp_path):
    run_job(CountingJob(), str(tmp_path / "out"), 2, ONE_PROCESS)
    text = (tmp_path / "out.manifest.json").read_text()
    assert len(json.loads(text)["shards"]) == 2
