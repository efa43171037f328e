"""Jobs: what they make, what a second run reuses, and where the work is done."""

import concurrent.futures.process
import glob
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import tensorflow as tf

from pipelines.cores import available_cores
from pipelines.flags import define_flags
from pipelines.prepare import jobs
from pipelines.prepare.jobs import Workers, parse_job_flags, parse_workers, run_job
from pipelines.shards.shard_manifest import read_manifest
from tests.pipelines.prepare.counting_job import ONE_PROCESS, CountingJob, content, expected

BEAM_IN_THIS_PROCESS = "apache_beam.runners.direct.direct_runner.BundleBasedDirectRunner"
COUNTS = {"records": 6, "tokens": 30, "lines": 6}


def fail_at(*shards, **fields):
    return CountingJob(failing={s: ValueError("in.txt: bad") for s in shards}, **fields)


def test_a_job_writes_shards_and_their_manifest(tmp_path, capfd):
    prefix = str(tmp_path / "new" / "folder" / "out")
    counts = run_job(CountingJob(vocabulary_sha256="abc"), prefix, 3, ONE_PROCESS)
    assert counts == COUNTS
    assert content(prefix) == expected(3)
    manifest = read_manifest(prefix)
    assert manifest["kind"] == "documents"
    assert manifest["counts"] == counts
    assert manifest["settings"] == {"step": 1, "pair": [1, 2]}
    assert manifest["vocabulary_sha256"] == "abc"
    assert manifest["damaged"] == []
    assert [entry["name"] for entry in manifest["shards"]] == sorted(expected(3))
    assert [entry["records"] for entry in manifest["shards"]] == [1, 2, 3]
    names = sorted(os.listdir(tmp_path / "new" / "folder"))
    assert names == [*sorted(expected(3)), "out.manifest.json"]
    assert f"{prefix}: 3 shards, 30 tokens, 0 s" in capfd.readouterr().err


def test_remote_files_are_resumed_too():
    """`ram://` is TensorFlow's other file system at hand: `open` does not know it."""
    prefix = "ram://folder/deeper/out"
    with pytest.raises(ValueError, match="in.txt: bad"):
        run_job(fail_at(2), prefix, 3, ONE_PROCESS)
    job = CountingJob()
    run_job(job, prefix, 3, ONE_PROCESS)
    assert job.made == [2]
    assert read_manifest(prefix)["counts"] == COUNTS
    with tf.io.gfile.GFile(f"{prefix}-00002-of-00003", "rb") as file:
        assert file.read() == b"0\n1\n2\n"
    assert not tf.io.gfile.exists(f"{prefix}.progress/00002.json")


def test_inputs_without_content_are_refused_and_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(CountingJob, "write_shard", lambda *_: ({"tokens": 0}, []))
    with pytest.raises(ValueError, match="/out: .* no tokens"):
        run_job(CountingJob(), str(tmp_path / "out"), 2, ONE_PROCESS)
    assert os.listdir(tmp_path) == []


def test_damaged_inputs_are_counted_over_all_shards_and_read_again_when_fixed(tmp_path):
    prefix = str(tmp_path / "out")
    with pytest.raises(ValueError, match="^in1.txt: record 7: torn; .* skip_damaged to 2 "):
        run_job(CountingJob(bad=(3, 1)), prefix, 4, ONE_PROCESS, skip_damaged=1)
    assert read_manifest(prefix) is None
    job = CountingJob(bad=(3,))
    with pytest.raises(ValueError, match="^in3.txt: record 7: torn; .* 1 "):
        run_job(job, prefix, 4, ONE_PROCESS)
    assert sorted(job.made) == [1, 3]
    job = CountingJob(bad=(3,))
    run_job(job, prefix, 4, ONE_PROCESS, skip_damaged=1)
    assert job.made == []  # what was made is kept
    assert [entry["file"] for entry in read_manifest(prefix)["damaged"]] == ["in3.txt"]
    assert content(prefix) == expected(4)


def test_places_that_cannot_be_written_to_are_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=f"{tmp_path}/file: "):
        run_job(CountingJob(), f"{tmp_path}/file/x", 2, ONE_PROCESS)
    assert os.listdir(tmp_path) == ["file"]
    with pytest.raises(ValueError, match="^here: .*Dataflow"):  # it has no such disk
        values = define_flags(("output", None, ""))
        parse_job_flags(values, ["--output=here", "--", "--runner=DataflowRunner"], "", ())


def test_complete_output_is_left_alone(tmp_path, capfd):
    prefix = str(tmp_path / "out")
    counts = run_job(CountingJob(), prefix, 3, ONE_PROCESS)
    capfd.readouterr()
    job = CountingJob()
    assert run_job(job, prefix, 3, ONE_PROCESS) == counts
    assert job.made == []
    assert capfd.readouterr().err == f"{prefix}: is complete, nothing to do\n"
    for other, shards, message in (
        (CountingJob(step=2), 3, "step=1, not 2"),
        (CountingJob(), 4, "shards=3, not 4"),
        (CountingJob(vocabulary_sha256="abc"), 3, 'vocabulary=null, not "abc"'),
    ):
        with pytest.raises(ValueError, match=f"out.manifest.json: .*{message}"):
            run_job(other, prefix, shards, ONE_PROCESS)
    os.remove(f"{prefix}-00001-of-00003")
    with pytest.raises(ValueError, match="out-00001-of-00003: "):
        run_job(CountingJob(), prefix, 3, ONE_PROCESS)


def test_an_unfinished_run_resumes(tmp_path):
    prefix = str(tmp_path / "out")
    with pytest.raises(ValueError, match="in.txt: bad"):
        run_job(fail_at(2), prefix, 4, ONE_PROCESS)
    assert sorted(content(prefix)) == sorted(expected(4))[:2]
    assert read_manifest(prefix) is None
    # What a run that was killed may leave.
    (tmp_path / "out-00002-of-00004.tmp-0123").write_bytes(b"half")
    (tmp_path / "out-00003-of-00004").write_bytes(b"of another run")
    (tmp_path / "out-train-00002-of-00004.tmp-0123").write_bytes(b"of another prefix")
    os.remove(tmp_path / "out-00000-of-00004")
    (tmp_path / "out.progress" / "00002.json").write_text('{"entry": {"na')

    with pytest.raises(ValueError, match="out.progress: .*step=1, not 2"):
        run_job(CountingJob(step=2), prefix, 4, ONE_PROCESS)
    with pytest.raises(ValueError, match="shards=4, not 5"):
        run_job(CountingJob(), prefix, 5, ONE_PROCESS)
    job = CountingJob()
    assert run_job(job, prefix, 4, ONE_PROCESS)["tokens"] == 60
    assert job.made == [0, 2, 3]
    (tmp_path / "out-train-00002-of-00004.tmp-0123").unlink()
    assert content(prefix) == expected(4)
    assert not glob.glob(str(tmp_path / "*.progress"))


def test_the_settings_of_a_run_that_made_nothing_may_be_changed(tmp_path):
    prefix = str(tmp_path / "out")
    with pytest.raises(ValueError, match="in.txt: bad"):
        run_job(fail_at(0), prefix, 4, ONE_PROCESS)
    run_job(CountingJob(step=2), prefix, 2, ONE_PROCESS)
    assert content(prefix) == expected(2, step=2)


def test_two_runs_do_not_write_the_same_files(tmp_path):
    prefix = str(tmp_path / "out")

    class Nested(CountingJob):
        def write_shard(self, shard, shards, file):
            with pytest.raises(ValueError, match="out: another process"):
                run_job(CountingJob(), prefix, shards, ONE_PROCESS)
            return super().write_shard(shard, shards, file)

    run_job(Nested(), prefix, 1, ONE_PROCESS)


@pytest.fixture
def workers_in_this_process(monkeypatch):
    """Replaces worker processes, which take seconds to load TensorFlow; the rest is as it is."""

    def call(task, items, workers, done):
        used.append(workers)
        try:
            for item in items:
                done(task(item))
        except Exception as error:
            raise pickle.loads(pickle.dumps(error)) from error

    used = []
    monkeypatch.setattr(jobs, "call_in_processes", call)
    return used


@pytest.mark.parametrize("asked, shards", [(5, 5), (20, 9), (None, 3)])
def test_several_processes_make_the_same(tmp_path, workers_in_this_process, asked, shards):
    prefix = str(tmp_path / "out")
    run_job(CountingJob(), prefix, asked, parse_workers(["--direct_num_workers=4"]))
    assert content(prefix) == expected(shards)
    assert workers_in_this_process == [min(4, shards)]


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("in.txt: bad"), ValueError, "^in.txt: bad$"),
        (OSError(28, "full"), OSError, "full.*out-00002-of-00005"),
    ],
)
def test_an_error_in_a_worker_comes_out(tmp_path, workers_in_this_process, error, kind, message):
    prefix = str(tmp_path / "out")
    with pytest.raises(kind, match=message):
        run_job(CountingJob(failing={2: error}), prefix, 5, Workers(2))
    assert sorted(content(prefix)) == sorted(expected(5))[:2]
    assert run_job(CountingJob(), prefix, 5, Workers(2))["tokens"] == 100
    assert content(prefix) == expected(5)


def test_a_worker_that_dies_is_reported(tmp_path, monkeypatch):
    def call(*_):
        raise concurrent.futures.process.BrokenProcessPool

    monkeypatch.setattr(jobs, "call_in_processes", call)
    with pytest.raises(ValueError, match="worker process.*memory"):
        run_job(CountingJob(), str(tmp_path / "out"), 5, Workers(2))


def test_beam_makes_the_same(tmp_path):
    prefix = str(tmp_path / "out")
    runner = parse_workers([f"--runner={BEAM_IN_THIS_PROCESS}"])
    with pytest.raises(ValueError, match="in.txt: bad"):
        run_job(fail_at(2), prefix, 3, runner)
    assert run_job(CountingJob(), prefix, 3, runner)["tokens"] == 30
    assert content(prefix) == expected(3)


def test_a_job_elsewhere_that_ends_too_early_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "_make_by_beam", lambda *_: None)  # as if it were cancelled
    prefix = str(tmp_path / "out")
    with pytest.raises(ValueError, match="out: 3 shards"):
        run_job(CountingJob(), prefix, 3, Workers(0, "DataflowRunner"))
    assert read_manifest(prefix) is None


def test_the_place_of_work_follows_two_dashes(monkeypatch):
    for argv, workers in (
        (["--a=1", "--", "--direct_num_workers=3"], Workers(3)),
        (["--a=1", "--", "--runner=direct"], Workers(available_cores())),
        (["--a=1"], Workers(available_cores())),
    ):
        values = define_flags(("a", None, "A."))
        assert parse_job_flags(values, argv, "", ("a",)) == workers
        assert values.a == "1"
    with pytest.raises(ValueError, match="--a is missing"):
        parse_job_flags(define_flags(("a", None, "A.")), ["--", "--a=1"], "", ("a",))
    with pytest.raises(ValueError, match="^--region=x: "):
        parse_workers(["--region=x"])
    others = ["--runner=PortableRunner", "--job_endpoint=localhost:1", "--direct_num_workers", "2"]
    assert parse_workers(others) == Workers(0, "PortableRunner", tuple(others))
    monkeypatch.setitem(sys.modules, "apache_beam", None)  # it cannot be imported
    with pytest.raises(ValueError, match="^runner x needs apache-beam"):
        parse_workers(["--runner=x"])


# The module that a user runs: its job is defined in `__main__`. It does what the file `do` says.
SCRIPT = """
    import dataclasses, glob, os, sys, time
    from pipelines import command_line
    from pipelines.prepare.jobs import ShardJob, parse_workers, run_job

    @dataclasses.dataclass(frozen=True)
    class Job(ShardJob):
        folder: str
        texts: tuple[bytes, ...]
        kind, unit = "documents", "tokens"
        made = 0  # by this process

        def settings(self):
            return {}

        def size(self):
            return 8, 8, "texts"

        def write_shard(self, shard, shards, file):
            for text in self.texts:
                file.write(text * shard)
            open(f"{self.folder}/pid-{os.getpid()}", "w").close()
            while len(glob.glob(f"{self.folder}/pid-*")) < 2:
                time.sleep(0.01)  # until the other worker has a shard too, however late it starts
            Job.made += 1
            if Job.made == 2 and open(f"{self.folder}/do").read() == "wait":
                file.write(b"x" * 5_000_000)  # so that there is half a file
                open(f"{self.folder}/waiting-{os.getpid()}", "w").close()
                time.sleep(60)
            return {"tokens": shard}, []

    def main(argv):
        folder, _, *workers = argv
        run_job(Job(folder, (b"one", b"two")), f"{folder}/out/out", 8, parse_workers(workers))

    if __name__ == "__main__":
        sys.exit(command_line.run(main))
"""
WHOLE = {f"out-{s:05d}-of-00008": b"one" * s + b"\n" + b"two" * s + b"\n" for s in range(8)}


@pytest.mark.slow
def test_a_command_that_is_stopped_and_one_process_that_resumes(tmp_path, monkeypatch):
    (tmp_path / "shard_job_command.py").write_text(textwrap.dedent(SCRIPT))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "do").write_text("wait")
    process = subprocess.Popen(
        [sys.executable, "-m", "shard_job_command", tmp_path, "--", "--direct_num_workers=2"],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()])},
        start_new_session=True,
        text=True,
    )
    deadline = time.monotonic() + 100
    while len(list(tmp_path.glob("waiting-*"))) < 2:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    assert len(list((tmp_path / "out").glob("out-*.tmp-*"))) == 2
    os.killpg(process.pid, signal.SIGINT)  # Ctrl-C: the terminal sends it to the workers too
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 75
    assert errors.splitlines()[-1] == "stopped: by SIGINT; run the same command again"
    pids = [int(path.name.removeprefix("pid-")) for path in tmp_path.glob("pid-*")]
    assert len(pids) == 2 and not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    assert not list((tmp_path / "out").glob("*.tmp-*"))
    made = content(tmp_path / "out" / "out")
    assert len(made) == 2 and made.items() < WHOLE.items()
    times = {name: os.stat(tmp_path / "out" / name).st_mtime_ns for name in made}

    from shard_job_command import main

    (tmp_path / "do").write_text("work")
    main([str(tmp_path), "--", "--direct_num_workers=1"])
    sys.modules.pop("shard_job_command")
    assert content(tmp_path / "out" / "out") == WHOLE
    assert {name: os.stat(tmp_path / "out" / name).st_mtime_ns for name in made} == times
    assert read_manifest(tmp_path / "out" / "out")["counts"] == {"records": 16, "tokens": 28}
