"""Existing output, whole or in part: which run it belongs to, and what of it is reused."""

import glob
import json
import os
import re

import pytest

from pipelines.prepare.job_output import JobOutput
from pipelines.prepare.shard_job import run_job
from pipelines.shards.shard_manifest import read_manifest
from tests.pipelines.prepare.counting_job import ONE_PROCESS, CountingJob, content, expected


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
        with pytest.raises(ValueError, match=f"out.manifest.json: .*{message}"):
            run_job(other, prefix, shards, ONE_PROCESS, vocabulary_sha256=sha256)
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

    with pytest.raises(ValueError, match="out: .*step=1 and not 2.*out.progress"):
        run_job(CountingJob(step=2), prefix, 4, ONE_PROCESS)
    with pytest.raises(ValueError, match="shards=4 and not 5.*-00004$"):
        run_job(CountingJob(), prefix, 5, ONE_PROCESS)
    job = CountingJob()
    assert run_job(job, prefix, 4, ONE_PROCESS)["tokens"] == 60
    assert job.made == [0, 2, 3]
    (tmp_path / "out-train-00002-of-00004.tmp-0123").unlink()
    assert content(prefix) == expected(4)
    assert not glob.glob(str(tmp_path / "*.progress"))
    assert f"{prefix}: 1 of 4 shards already exist" in capfd.readouterr().err


def test_a_note_of_other_settings_is_not_taken(tmp_path):
    prefix = str(tmp_path / "out")
    with pytest.raises(ValueError):
        run_job(CountingJob(failing={2: ValueError("in.txt: bad")}), prefix, 3, ONE_PROCESS)
    note = tmp_path / "out.progress" / "00001.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "settings_sha256": "0"}))
    job = CountingJob()
    run_job(job, prefix, 3, ONE_PROCESS)
    assert job.made == [1, 2]


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


def test_progress_counts_what_this_run_made(tmp_path):
    output = JobOutput(str(tmp_path / "out"), {"shards": 4})
    (tmp_path / "out.progress").mkdir()
    result = {"entry": {}, "counts": {"words": 3_000_000}, "damaged": []}
    output.note(0, result)
    text = output.progress({0: result}, "words")
    assert text() == "1 of 4"
    output.note(2, result)
    assert re.fullmatch(r"2 of 4, 3,000,000 words, [\d,]+ a second, 0 s left", text())
