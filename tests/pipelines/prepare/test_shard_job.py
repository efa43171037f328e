import os

import pytest
import tensorflow as tf

from pipelines.cores import available_cores
from pipelines.flags import define_flags
from pipelines.prepare.shard_job import check_job, choose_shards, parse_job_flags, run_job
from pipelines.prepare.worker_arguments import WorkerArguments
from pipelines.shards.shard_manifest import read_manifest
from tests.pipelines.prepare.counting_job import ONE_PROCESS, CountingJob, content, expected


def test_shards_and_manifest(tmp_path, capfd):
    prefix = str(tmp_path / "new" / "folder" / "out")
    counts = run_job(CountingJob(), prefix, 3, ONE_PROCESS, vocabulary_sha256="abc")
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
    with pytest.raises(ValueError, match="^in1.txt: record 7: torn; .* max_bad_records to 2 "):
        run_job(CountingJob(bad=(3, 1)), prefix, 4, ONE_PROCESS, max_bad_records=1)
    assert read_manifest(prefix) is None
    job = CountingJob(bad=(3, 1))
    run_job(job, prefix, 4, ONE_PROCESS, max_bad_records=2)
    assert job.made == []  # what was made is kept
    assert [entry["file"] for entry in read_manifest(prefix)["damaged"]] == ["in1.txt", "in3.txt"]
    assert "2 damaged inputs were left out; they are listed in" in capfd.readouterr().err


def test_other_errors_are_shown_as_they_are_and_those_of_the_system_name_the_file(tmp_path):
    prefix = str(tmp_path / "out")
    with pytest.raises(ZeroDivisionError):
        run_job(CountingJob(failing={0: ZeroDivisionError()}), prefix, 2, ONE_PROCESS)
    full = OSError(28, "No space left on device")
    with pytest.raises(OSError, match="No space left .*out-00000-of-00002"):
        run_job(CountingJob(failing={0: full}), prefix, 2, ONE_PROCESS)
    assert content(prefix) == {}


def test_worker_arguments_follow_two_dashes():
    for argv, processes in (
        (["--a=1", "--", "--direct_num_workers=3"], 3),
        (["--a=1", "--"], available_cores()),
        (["--a=1"], available_cores()),
    ):
        values = define_flags(("a", None, "A."))
        assert parse_job_flags(values, argv, "", ("a",)) == WorkerArguments(processes)
        assert values.a == "1"
    with pytest.raises(ValueError, match="--a is missing"):
        parse_job_flags(define_flags(("a", None, "A.")), ["--", "--a=1"], "", ("a",))


@pytest.mark.parametrize(
    ("given", "automatic", "shards", "said"),
    [
        (3, 9, 3, ""),
        (8, 2, 7, "PREFIX: 7 shards for 7 images\n"),
        (None, 5, 5, "PREFIX: 5 shards for 7 images\n"),
        (None, 9, 7, "PREFIX: 7 shards for 7 images\n"),
        (None, 0, 1, "PREFIX: 1 shard for 7 images\n"),
    ],
)
def test_the_number_of_shards_is_said(tmp_path, capfd, given, automatic, shards, said):
    prefix = str(tmp_path / "out")
    assert choose_shards(prefix, given, automatic, 7, "images") == shards
    assert capfd.readouterr().err == said.replace("PREFIX", prefix)


def test_what_cannot_be_written_is_told_without_a_trace(tmp_path):
    (tmp_path / "file").touch()
    before = sorted(os.listdir(tmp_path))
    check_job(str(tmp_path / "new" / "folder" / "data"), ONE_PROCESS)
    for output, workers in (
        ("file/x", ONE_PROCESS),
        ("new/", ONE_PROCESS),
        ("new/x", WorkerArguments(0, "DataflowRunner")),  # which has no such disk
    ):
        with pytest.raises(ValueError, match=f"{tmp_path}/{output}: "):
            check_job(f"{tmp_path}/{output}", workers)
    assert sorted(os.listdir(tmp_path)) == before
