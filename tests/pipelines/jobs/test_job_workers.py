import os
import sys

import pytest

from pipelines.command_line import UserError
from pipelines.jobs import job_output, job_workers, local_beam
from pipelines.jobs.shard_job import run_job
from pipelines.shards.shard_manifest import read_manifest
from tests.pipelines.jobs.counting_job import CountingJob, content, expected


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
    assert content(prefix) == expected(5)
    assert [entry["records"] for entry in read_manifest(prefix)["shards"]] == [1, 2, 3, 4, 5]


def test_an_error_in_a_worker_comes_out_as_it_was(tmp_path, beam_in_this_process):
    prefix = str(tmp_path / "out")
    workers = ["--direct_num_workers=9"]
    job = CountingJob(failing={2: UserError("in.txt:\n bad")})
    with pytest.raises(UserError, match="^in.txt: bad$"):
        run_job(job, prefix, 5, workers)
    made = content(prefix)
    assert len(made) < 5 and "out-00002-of-00005" not in made
    assert run_job(CountingJob(), prefix, 5, workers)["tokens"] == 100
    assert content(prefix) == expected(5)


OTHER_ERRORS = [
    (ValueError("no way"), RuntimeError, "shard 2: no way\n(.|\n)*Traceback(.|\n)*write_shard"),
    (OSError("No space left"), UserError, "out-00002-of-00005: cannot be made .No space left"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("error", "kind", "message"), OTHER_ERRORS)
def test_other_errors_in_a_worker_too(tmp_path, beam_in_this_process, error, kind, message):
    job = CountingJob(failing={2: error})
    with pytest.raises(kind, match=message):
        run_job(job, str(tmp_path / "out"), 5, ["--direct_num_workers=9"])


@pytest.mark.parametrize(("error", "kind", "message"), OTHER_ERRORS)
def test_a_worker_here_leaves_every_error_in_a_file(tmp_path, error, kind, message):
    output = job_output.JobOutput(str(tmp_path / "out"), {"shards": 5})
    os.mkdir(output.folder)
    pickled = job_workers._pickle((CountingJob(failing={2: error}), output))
    for shard in (1, 2, 3):  # the last one is not begun
        job_workers._make_shard_of_pickle(pickled, shard, is_local=True)
    assert list(output.finished()) == [1] and len(content(output.prefix)) == 1
    with pytest.raises(kind, match=message):
        output.raise_if_unfinished(output.finished())


def test_other_runners_are_given_the_same_pipeline(tmp_path):
    prefix = str(tmp_path / "out")
    runner = ["--runner=apache_beam.runners.portability.fn_api_runner.fn_runner.FnApiRunner"]
    with pytest.raises(UserError, match="^in.txt: bad$"):
        run_job(CountingJob(failing={2: UserError("in.txt: bad")}), prefix, 3, runner)
    assert run_job(CountingJob(), prefix, 3, runner)["tokens"] == 30
    assert content(prefix) == expected(3)


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
    assert content(output.prefix) == {}


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
