import os

import pytest
import tensorflow as tf

from pipelines.command_line import UserError, define_flags
from pipelines.jobs.shard_job import parse_job_flags, run_job
from pipelines.shards.shard_manifest import read_manifest
from tests.pipelines.jobs.counting_job import ONE_PROCESS, CountingJob, content, expected


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
    with pytest.raises(UserError, match="in.txt: bad"):
        run_job(CountingJob(failing={2: UserError("in.txt: bad")}), prefix, 3, ONE_PROCESS)
    job = CountingJob()
    run_job(job, prefix, 3, ONE_PROCESS)
    assert job.made == [2]
    assert read_manifest(prefix)["counts"] == {"records": 6, "tokens": 30, "lines": 6}
    with tf.io.gfile.GFile(f"{prefix}-00002-of-00003", "rb") as file:
        assert file.read() == b"0\n1\n2\n"
    assert not tf.io.gfile.exists(f"{prefix}.progress/00002.json")


def test_inputs_without_content_are_refused_and_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(CountingJob, "write_shard", lambda *_: ({"tokens": 0}, []))
    with pytest.raises(UserError, match="^--output=.*/out: nothing .* inputs hold no tokens; give"):
        run_job(CountingJob(), str(tmp_path / "out"), 2, ONE_PROCESS)
    assert os.listdir(tmp_path) == []


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


def test_other_errors_are_shown_as_they_are_and_those_of_the_system_in_one_line(tmp_path):
    prefix = str(tmp_path / "out")
    with pytest.raises(ZeroDivisionError):
        run_job(CountingJob(failing={0: ZeroDivisionError()}), prefix, 2, ONE_PROCESS)
    full = OSError(28, "No space left on device")
    with pytest.raises(UserError, match="out-00000-of-00002: cannot be made .* No space left"):
        run_job(CountingJob(failing={0: full}), prefix, 2, ONE_PROCESS)
    assert content(prefix) == {}


@pytest.mark.parametrize("prefix", ["folder/", ""])
def test_outputs_need_a_name(tmp_path, monkeypatch, prefix):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"--output={prefix}: is a folder; give the beginning"):
        run_job(CountingJob(), prefix, 1)


def test_beam_arguments_follow_two_dashes():
    for argv, beam_arguments in (
        (["--a=1", "--", "--b", "--"], ["--b", "--"]),
        (["--a=1", "--"], []),
        (["--a=1"], []),
    ):
        values = define_flags(("a", None, "A."))
        assert parse_job_flags(values, argv, "", ("a",)) == beam_arguments
        assert values.a == "1"
    with pytest.raises(UserError, match="--a is missing"):
        parse_job_flags(define_flags(("a", None, "A.")), ["--", "--a=1"], "", ("a",))
