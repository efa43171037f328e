import os

import pytest
import tensorflow as tf

from pipelines.flags import define_flags
from pipelines.jobs.shard_job import check_job, choose_shards, parse_job_flags, run_job
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
    with pytest.raises(
        ValueError, match="^--output=.*/out: nothing .* inputs hold no tokens; give"
    ):
        run_job(CountingJob(), str(tmp_path / "out"), 2, ONE_PROCESS)
    assert os.listdir(tmp_path) == []


def test_damaged_inputs_are_counted_over_all_shards(tmp_path, capfd):
    prefix = str(tmp_path / "out")
    with pytest.raises(
        ValueError, match="^in1.txt: record 7: torn; 2 damaged in all: .* --max_bad_records=2 "
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
    with pytest.raises(ValueError, match="out-00000-of-00002: cannot be made .* No space left"):
        run_job(CountingJob(failing={0: full}), prefix, 2, ONE_PROCESS)
    assert content(prefix) == {}


@pytest.mark.parametrize("prefix", ["folder/", ""])
def test_outputs_need_a_name(tmp_path, monkeypatch, prefix):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"--output={prefix}: is a folder; give the beginning"):
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
    with pytest.raises(ValueError, match="--a is missing"):
        parse_job_flags(define_flags(("a", None, "A.")), ["--", "--a=1"], "", ("a",))


@pytest.mark.parametrize(
    ("given", "automatic", "shards", "said"),
    [
        (3, 9, 3, ""),
        (8, 2, 7, "--train_shards=8: only 7 images, so 7 files are written\n"),
        (None, 5, 5, "PREFIX: 5 shards for 7 images (--train_shards)\n"),
        (None, 9, 7, "PREFIX: 7 shards for 7 images (--train_shards)\n"),
        (None, 0, 1, "PREFIX: 1 shard for 7 images (--train_shards)\n"),
    ],
)
def test_the_number_of_shards_is_said(tmp_path, capfd, given, automatic, shards, said):
    prefix = str(tmp_path / "out")
    assert choose_shards(prefix, given, automatic, 7, "images", "train_shards") == shards
    assert capfd.readouterr().err == said.replace("PREFIX", prefix)


def test_a_job_keeps_the_number_that_was_chosen_for_it(tmp_path, capfd):
    """Also where another version would choose another one."""
    prefix = str(tmp_path / "out")
    with pytest.raises(ValueError, match="in.txt: bad"):
        run_job(CountingJob(failing={2: ValueError("in.txt: bad")}), prefix, 4, ONE_PROCESS)
    assert choose_shards(prefix, None, 6, 100, "texts") == 4
    assert choose_shards(prefix, 5, 6, 100, "texts") == 5  # run_job refuses that
    run_job(CountingJob(), prefix, 4, ONE_PROCESS)
    capfd.readouterr()
    assert choose_shards(prefix, None, 6, 100, "texts") == 4
    assert capfd.readouterr().err == ""
    with pytest.raises(ValueError, match="shards=4 and not 5"):
        run_job(CountingJob(), prefix, 5, ONE_PROCESS)


def test_a_job_of_which_nothing_is_made_keeps_no_number(tmp_path):
    prefix = str(tmp_path / "out")
    with pytest.raises(ValueError, match="in.txt: bad"):
        run_job(CountingJob(failing={0: ValueError("in.txt: bad")}), prefix, 4, ONE_PROCESS)
    assert choose_shards(prefix, None, 6, 100, "texts") == 6


def test_what_cannot_be_written_is_told_without_a_trace(tmp_path):
    (tmp_path / "file").touch()
    before = sorted(os.listdir(tmp_path))
    check_job(str(tmp_path / "new" / "folder" / "data"), ())
    for output, message in (("file/x", "file: Not a directory"), ("new/", "is a folder; give")):
        with pytest.raises(ValueError, match=f"^--output={tmp_path}/{output}: .*{message}"):
            check_job(f"{tmp_path}/{output}", ())
    assert sorted(os.listdir(tmp_path)) == before
