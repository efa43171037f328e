"""What follows `--`: read before anything is done."""

import sys

import pytest

from pipelines.prepare.worker_arguments import WorkerArguments, parse_worker_arguments


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["--direct_num_workers=two"], "direct_num_workers"),
        (["--direct_num_workers=-1"], "direct_num_workers"),
        (["--runner"], "runner"),
        (["--region=x"], "^--region=x: "),
        (["--runner=DirectRunner", "more"], "^more: "),
    ],
)
def test_bad_arguments(arguments, culprit):
    with pytest.raises(ValueError, match=culprit):
        parse_worker_arguments(arguments)


def test_arguments_of_this_machine_and_of_others():
    three = ["--direct_num_workers=3"]
    assert parse_worker_arguments(three) == WorkerArguments(3)
    assert parse_worker_arguments(["--runner=direct", *three]) == WorkerArguments(3)
    assert parse_worker_arguments([]).processes >= 1
    pytest.importorskip("apache_beam")
    others = ["--runner=PortableRunner", "--job_endpoint=localhost:1", "--direct_num_workers", "2"]
    assert parse_worker_arguments(others) == WorkerArguments(0, "PortableRunner", tuple(others))


def test_beam_is_asked_for_where_it_is_needed_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)  # it cannot be imported
    parse_worker_arguments(["--runner=DirectRunner"])
    with pytest.raises(ValueError, match=r"^runner x needs apache-beam"):
        parse_worker_arguments(["--runner=x"])
