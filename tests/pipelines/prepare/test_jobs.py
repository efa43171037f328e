"""Jobs: what they make, what a second run reuses, and where the work is done."""

import glob
import json
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
from pipelines.cores import available_cores
from pipelines.flags import define_flags
from pipelines.prepare import jobs
from pipelines.prepare.jobs import Workers, parse_job_flags, parse_workers, run_job
from pipelines.shards.shard_manifest import read_manifest
from tests.pipelines.prepare.counting_job import ONE_PROCESS, CountingJob, content, expected

BEAM_IN_THIS_PROCESS = "apache_beam.runners.direct.direct_runner.BundleBasedDirectRunner"


def test_shards_and_manifest(tmp_path, capfd):
    prefix = str(tmp_path / "new" / "folder" / "out")
    counts = run_job(CountingJob(vocabulary_sha256="abc"), prefix, 3, ONE_PROCESS)
    assert counts == {"records": 6, "tokens": 30, "lines": 6}
    assert content(prefix) == expected(3)
    manifest = read_manifest(prefix)
    assert manifest["kind"] == "documents"
    assert manifest["counts"] == counts
    assert manifest["settings"] == {"step": 1, "pair": [1, 2]}
    assert manifest["vocabulary_sha256"] == "abc"
    assert manifest["damaged"] == []
    assert [entry["name"] for entry in manifest["shards"]] == sorted(expected(3))
    assert [entry["records"] for entry in manifest["shards"]] == [1, 2, 3]
    assert sorted(os.listdir(tmp_path / "new" / "folder")) == [
        *sorted(expected(3)),
        "out.manifest.json",
    ]
    assert f"{prefix}: 3 shards, 30 tokens, 0 s" in capfd.readouterr().err


def test_remote_files(capfd):
    """`ram://` is TensorFlow's other file system at hand: `open` does not know it."""
    prefix = "ram://folder/deeper/out"
    with pytest.raises(ValueError, match="in.txt: bad"):
        run_job(CountingJob(failing={2: ValueError("in.txt: bad")}), prefix, 3, ONE_PROCESS)
    job = CountingJob()
    run_job(job, prefix, 3, ONE_PROCESS)
    assert job.made == [2]
    assert read_manifest(prefix)["counts"] == {"records": 6, "tokens": 30, "lines": 6}
    with tf.io.gfile.GFile(f"{prefix}-00002-of-00003", "rb") as file:
        assert file.read() == b"0\n1\n2\n"
    assert not tf.io.gfile.exists(f"{prefix}.progress/00002.json")


def test_inputs_without_content_are_refused_and_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(CountingJob, "write_shard", lambda *_: ({"tokens": 0}, []))
    with pytest.raises(ValueError, match="/out: .* no tokens"):
        run_job(CountingJob(), str(tmp_path / "out"), 2, ONE_PROCESS)
    assert os.listdir(tmp_path) == []


def test_damaged_inputs_are_counted_over_all_shards(tmp_path, capfd):
    prefix = str(tmp_path / "out")
    with pytest.raises(ValueError, match="^in1.txt: record 7: torn; .* skip_damaged to 2 "):
        run_job(CountingJob(bad=(3, 1)), prefix, 4, ONE_PROCESS, skip_damaged=1)
    assert read_manifest(prefix) is None
    job = CountingJob(bad=(3, 1))
    run_job(job, prefix, 4, ONE_PROCESS, skip_damaged=2)
    assert job.made == []  # what was made is kept
    assert [entry["file"] for entry in read_manifest(prefix)["damaged"]] == ["in1.txt", "in3.txt"]
    assert "2 damaged inputs left out" in capfd.readouterr().err


def test_jobs_follow_two_dashes():
    for argv, processes in (
        (["--a=1", "--", "--direct_num_workers=3"], 3),
        (["--a=1", "--"], available_cores()),
        (["--a=1"], available_cores()),
    ):
        values = define_flags(("a", None, "A."))
        assert parse_job_flags(values, argv, "", ("a",)) == Workers(processes)
        assert values.a == "1"
    with pytest.raises(ValueError, match="--a is missing"):
        parse_job_flags(define_flags(("a", None, "A.")), ["--", "--a=1"], "", ("a",))


@pytest.mark.parametrize(
    "given, shards, said",
    [(3, 3, ""), (20, 9, "PREFIX: 9 shards for 9 numbers"), (None, 4, "PREFIX: 4 shards for 9 ")],
)
def test_the_number_of_shards_is_said(tmp_path, monkeypatch, capfd, given, shards, said):
    monkeypatch.setattr(CountingJob, "size", lambda _: (4, 9, "numbers"))
    prefix = str(tmp_path / "out")
    run_job(CountingJob(), prefix, given, ONE_PROCESS)
    assert len(content(prefix)) == shards
    first = capfd.readouterr().err.splitlines()[0]
    assert first.startswith(said.replace("PREFIX", prefix)) and said or "for 9" not in first


def test_what_cannot_be_written_is_told_without_a_trace(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=f"{tmp_path}/file: cannot be written"):
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
        (
            CountingJob(vocabulary_sha256="abc"),
            3,
            'vocabulary=null, not "abc"',
        ),
    ):
        with pytest.raises(ValueError, match=f"out.manifest.json: .*{message}"):
            run_job(other, prefix, shards, ONE_PROCESS)
    os.remove(f"{prefix}-00001-of-00003")
    with pytest.raises(ValueError, match="out-00001-of-00003: "):
        run_job(CountingJob(), prefix, 3, ONE_PROCESS)


def test_an_unfinished_run_goes_on(tmp_path, capfd):
    prefix = str(tmp_path / "out")
    with pytest.raises(ValueError, match="in.txt: bad"):
        run_job(CountingJob(failing={2: ValueError("in.txt: bad")}), prefix, 4, ONE_PROCESS)
    assert sorted(content(prefix)) == sorted(expected(4))[:2]
    assert read_manifest(prefix) is None
    # What a run that was killed may leave.
    (tmp_path / "out-00002-of-00004.tmp-0123").write_bytes(b"half")
    (tmp_path / "out-00003-of-00004").write_bytes(b"of another run")
    (tmp_path / "out-train-00002-of-00004.tmp-0123").write_bytes(b"of another prefix")
    os.remove(tmp_path / "out-00000-of-00004")
    (tmp_path / "out.progress" / "00002.json").write_text('{"entry": {"na')
    capfd.readouterr()

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
    assert f"{prefix}: 1 of 4 shards already exist" in capfd.readouterr().err


def test_a_note_of_other_settings_is_not_taken(tmp_path):
    """Of a worker elsewhere, which outlived its run."""
    prefix = str(tmp_path / "out")
    job = CountingJob(failing={2: ValueError("in.txt: bad")})
    with pytest.raises(ValueError, match="bad"):
        run_job(job, prefix, 3, ONE_PROCESS)
    note = tmp_path / "out.progress" / "00001.json"
    content = json.loads(note.read_text())
    note.write_text(json.dumps({**content, "plan": {**content["plan"], "step": 2}}))
    with pytest.raises(ValueError, match="out.progress: .*step=2, not 1"):
        run_job(CountingJob(), prefix, 3, ONE_PROCESS)


def test_settings_of_a_run_that_made_nothing_may_be_changed(tmp_path):
    prefix = str(tmp_path / "out")
    with pytest.raises(ValueError, match="in.txt: bad"):
        run_job(CountingJob(failing={0: ValueError("in.txt: bad")}), prefix, 4, ONE_PROCESS)
    run_job(CountingJob(step=2), prefix, 2, ONE_PROCESS)
    assert content(prefix) == expected(2, step=2)


def test_inputs_that_were_fixed_are_read_again(tmp_path):
    prefix = str(tmp_path / "out")
    with pytest.raises(ValueError, match="in1.txt.* 2 "):
        run_job(CountingJob(bad=(3, 1)), prefix, 4, ONE_PROCESS)
    job = CountingJob(bad=(3,))
    with pytest.raises(ValueError, match="^in3.txt: record 7: torn; .* 1 "):
        run_job(job, prefix, 4, ONE_PROCESS)
    assert sorted(job.made) == [1, 3]
    job = CountingJob()
    run_job(job, prefix, 4, ONE_PROCESS)
    assert job.made == [3] and read_manifest(prefix)["damaged"] == []
    assert content(prefix) == expected(4)


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


@pytest.mark.parametrize(
    ("argument", "workers"),
    [("--direct_num_workers=9", [5]), ("--runner=direct", [4])],
)
def test_how_many_processes_work(tmp_path, monkeypatch, workers_in_this_process, argument, workers):
    monkeypatch.setattr(jobs, "available_cores", lambda: 4)
    prefix = str(tmp_path / "out")
    counts = run_job(CountingJob(), prefix, 5, parse_workers([argument]))
    assert workers_in_this_process == workers
    assert counts == {"records": 15, "tokens": 100, "lines": 15}
    assert content(prefix) == expected(5)
    assert [entry["records"] for entry in read_manifest(prefix)["shards"]] == [1, 2, 3, 4, 5]


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
        run_job(CountingJob(failing={2: error}), prefix, 5, Workers(2))
    assert sorted(content(prefix)) == sorted(expected(5))[:2]
    assert run_job(CountingJob(), prefix, 5, Workers(2))["tokens"] == 100
    assert content(prefix) == expected(5)


def test_beam_makes_the_same(tmp_path):
    prefix = str(tmp_path / "out")
    runner = parse_workers([f"--runner={BEAM_IN_THIS_PROCESS}"])
    with pytest.raises(ValueError, match="in.txt: bad"):
        run_job(CountingJob(failing={2: ValueError("in.txt: bad")}), prefix, 3, runner)
    assert run_job(CountingJob(), prefix, 3, runner)["tokens"] == 30
    assert content(prefix) == expected(3)


def test_a_job_elsewhere_that_ends_too_early_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "_make_by_beam", lambda *_: None)  # as if it were cancelled
    prefix = str(tmp_path / "out")
    with pytest.raises(ValueError, match="out: 3 shards were not made"):
        run_job(CountingJob(), prefix, 3, Workers(0, "DataflowRunner"))
    assert read_manifest(prefix) is None


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["--direct_num_workers=two"], "direct_num_workers"),
        (["--runner=x"], "^runner x needs apache-beam"),
        (["--region=x"], "^--region=x: "),
        (["--runner=DirectRunner", "more"], "^more: "),
    ],
)
def test_bad_arguments(arguments, culprit, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)  # it cannot be imported
    with pytest.raises(ValueError, match=culprit):
        parse_workers(arguments)


def test_arguments_of_this_machine_and_of_others():
    three = ["--direct_num_workers=3"]
    assert parse_workers(three) == Workers(3)
    assert parse_workers(["--runner=direct", *three]) == Workers(3)
    assert parse_workers([]).processes >= 1
    pytest.importorskip("apache_beam")
    others = ["--runner=PortableRunner", "--job_endpoint=localhost:1", "--direct_num_workers", "2"]
    assert parse_workers(others) == Workers(0, "PortableRunner", tuple(others))


# The module that a user runs: its job is defined in `__main__`. It does what the file `do` says.
SCRIPT = """
    import dataclasses, glob, os, signal, sys, time
    from pipelines import command_line
    from pipelines.prepare.jobs import ShardJob, parse_workers, run_job

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

        def size(self):
            return 8, 8, "parts"

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
        run_job(job, f"{folder}/out/out", 8, parse_workers(workers))

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
