"""Jobs: what they make, what a second run reuses, and where the work is done."""

import concurrent.futures.process
import os
import sys

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


@pytest.fixture
def prefix(tmp_path):
    return str(tmp_path / "out")


def fail_at(shard, prefix, shards, workers=ONE_PROCESS):
    with pytest.raises(ValueError, match="in.txt: bad"):
        run_job(CountingJob(failing={shard: ValueError("in.txt: bad")}), prefix, shards, workers)


def test_a_job_writes_shards_and_their_manifest_once(tmp_path, capfd):
    prefix = str(tmp_path / "new" / "folder" / "out")
    assert run_job(CountingJob(vocabulary_sha256="abc"), prefix, 3, ONE_PROCESS) == COUNTS
    assert content(prefix) == expected(3)
    manifest = read_manifest(prefix)
    assert (manifest["kind"], manifest["vocabulary_sha256"]) == ("documents", "abc")
    assert manifest["settings"] == {"step": 1, "pair": [1, 2]}
    assert (manifest["counts"], manifest["damaged"]) == (COUNTS, [])
    assert [entry["name"] for entry in manifest["shards"]] == sorted(expected(3))
    assert [entry["records"] for entry in manifest["shards"]] == [1, 2, 3]
    names = sorted(os.listdir(tmp_path / "new" / "folder"))
    assert names == [*sorted(expected(3)), "out.manifest.json"]

    capfd.readouterr()
    job = CountingJob(vocabulary_sha256="abc")
    assert run_job(job, prefix, 3, ONE_PROCESS) == COUNTS and job.made == []
    assert capfd.readouterr().err == f"{prefix}: is complete, nothing to do\n"


def test_complete_output_of_another_job_or_that_was_changed_is_refused(prefix):
    run_job(CountingJob(), prefix, 3, ONE_PROCESS)
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


def test_remote_files_are_resumed_too():
    """`ram://` is TensorFlow's other file system at hand: `open` does not know it."""
    prefix = "ram://folder/deeper/out"
    fail_at(2, prefix, 3)
    job = CountingJob()
    run_job(job, prefix, 3, ONE_PROCESS)
    assert job.made == [2]
    assert read_manifest(prefix)["counts"] == COUNTS
    with tf.io.gfile.GFile(f"{prefix}-00002-of-00003", "rb") as file:
        assert file.read() == b"0\n1\n2\n"
    assert not tf.io.gfile.exists(f"{prefix}.progress/00002.json")


def test_inputs_without_content_are_refused_and_leave_nothing(tmp_path, prefix, monkeypatch):
    monkeypatch.setattr(CountingJob, "write_shard", lambda *_: ({"tokens": 0}, []))
    with pytest.raises(ValueError, match="/out: .* no tokens"):
        run_job(CountingJob(), prefix, 2, ONE_PROCESS)
    assert os.listdir(tmp_path) == []


def test_damaged_inputs_are_counted_over_all_shards_and_read_again_when_fixed(prefix):
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


def test_an_unfinished_run_resumes(tmp_path, prefix):
    fail_at(2, prefix, 4)
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
    job = CountingJob()
    assert run_job(job, prefix, 4, ONE_PROCESS)["tokens"] == 60
    assert job.made == [0, 2, 3]
    (tmp_path / "out-train-00002-of-00004.tmp-0123").unlink()
    assert content(prefix) == expected(4)
    assert not list(tmp_path.glob("*.progress"))


def test_two_runs_do_not_write_the_same_files(prefix):
    class Nested(CountingJob):
        def write_shard(self, shard, shards, file):
            with pytest.raises(ValueError, match="out: another process"):
                run_job(CountingJob(), prefix, shards, ONE_PROCESS)
            return super().write_shard(shard, shards, file)

    run_job(Nested(), prefix, 1, ONE_PROCESS)


@pytest.mark.parametrize("asked, shards", [(5, 5), (20, 9), (None, 3)])
def test_there_are_no_more_workers_than_shards_nor_shards_than_numbers(
    prefix, monkeypatch, asked, shards
):
    def call(task, items, workers, done):
        """In this process: others take seconds to load TensorFlow."""
        assert workers == min(4, shards)
        for item in items:
            done(task(item))

    monkeypatch.setattr(jobs, "call_in_processes", call)
    run_job(CountingJob(), prefix, asked, Workers(4))
    assert content(prefix) == expected(shards)


def test_a_worker_that_dies_is_reported(prefix, monkeypatch):
    def call(*_):
        raise concurrent.futures.process.BrokenProcessPool

    monkeypatch.setattr(jobs, "call_in_processes", call)
    with pytest.raises(ValueError, match="worker process.*memory"):
        run_job(CountingJob(), prefix, 5, Workers(2))


def test_beam_makes_the_same(prefix):
    runner = parse_workers([f"--runner={BEAM_IN_THIS_PROCESS}"])
    fail_at(2, prefix, 3, runner)
    assert run_job(CountingJob(), prefix, 3, runner)["tokens"] == 30
    assert content(prefix) == expected(3)


def test_the_place_of_work_follows_two_dashes():
    for argv, workers in (
        (["--a=1", "--", "--direct_num_workers=3"], Workers(3)),
        (["--a=1", "--", "--runner=direct"], Workers(available_cores())),
    ):
        values = define_flags(("a", None, "A."))
        assert parse_job_flags(values, argv, "", ("a",)) == workers
        assert values.a == "1"
    others = ["--runner=PortableRunner", "--job_endpoint=localhost:1", "--direct_num_workers", "2"]
    assert parse_workers(others) == Workers(0, "PortableRunner", tuple(others))


@pytest.mark.parametrize(
    ("argv", "culprit"),
    [
        (["--", "--a=1"], "--a is missing"),
        (["--a=1", "--", "--region=x"], "--region=x: "),
        (["--a=1", "--", "--runner=DataflowRunner"], "here: .*Dataflow"),  # it has no such disk
        (["--a=1", "--", "--runner=x"], "runner x needs apache-beam"),
    ],
)
def test_places_of_work_that_are_refused(monkeypatch, argv, culprit):
    if argv[-1] == "--runner=x":
        monkeypatch.setitem(sys.modules, "apache_beam", None)  # it cannot be imported
    values = define_flags(("a", None, "A."), ("output", "here", "O."))
    with pytest.raises(ValueError, match=f"^{culprit}"):
        parse_job_flags(values, argv, "", ("a",))
