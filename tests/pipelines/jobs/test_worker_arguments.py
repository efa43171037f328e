"""What follows `--`: read before anything is done."""

import os
import sys

import pytest

from pipelines.jobs.shard_job import check_job
from pipelines.jobs.worker_arguments import WorkerArguments, beam_options, parse_worker_arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--direct_num_workers=two"], "--direct_num_workers must be a whole number"),
        (["--direct_num_workers=-1"], "--direct_num_workers must be a whole number"),
        (["--runner"], "--runner: expected one argument"),
        (["--region=x"], "^--region=x: without a --runner=... of Beam only --direct_num"),
        (["--runner=DirectRunner", "more"], "^more: without a --runner"),
        (["--runner=DataflowRunner"], "out: DataflowRunner cannot write there; give a gs://"),
    ],
)
def test_bad_arguments(tmp_path, capfd, arguments, message):
    with pytest.raises(ValueError, match=message):
        check_job(str(tmp_path / "out"), arguments)
    assert capfd.readouterr().err == "" and not os.listdir(tmp_path)


def test_arguments_of_this_machine_and_of_others():
    three = ["--direct_num_workers=3"]
    assert parse_worker_arguments(three, "x") == WorkerArguments(None, 3)
    assert parse_worker_arguments(["--runner=direct", *three], "x") == WorkerArguments(None, 3)
    pytest.importorskip("apache_beam")
    others = ["--runner=PortableRunner", "--job_endpoint=localhost:1"]
    assert parse_worker_arguments(others, "x") == WorkerArguments(
        "PortableRunner", 0, tuple(others)
    )


def test_beam_is_asked_for_where_it_is_needed_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)  # it cannot be imported
    monkeypatch.setitem(sys.modules, "apache_beam.options.pipeline_options", None)
    check_job(str(tmp_path / "out"), [])
    check_job(str(tmp_path / "out"), ["--runner=DirectRunner"])
    message = r'^--runner=x needs .*pip install -e "\.\[beam\]"'
    with pytest.raises(ValueError, match=message):
        check_job(str(tmp_path / "out"), ["--runner=x"])
    with pytest.raises(ValueError, match=message):
        beam_options(WorkerArguments("x", 0))


def test_options_that_beam_does_not_know():
    pytest.importorskip("apache_beam")
    with pytest.raises(ValueError, match="Beam does not know --no_such_option"):
        beam_options(WorkerArguments("DataflowRunner", 0, ("--no_such_option=1",)))
