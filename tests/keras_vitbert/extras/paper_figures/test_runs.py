"""What is read of finished runs for their figures."""

import pytest

from keras_vitbert.extras.paper_figures.runs import Lacking, PretrainedRun, open_runs
from tests.keras_vitbert.extras.paper_figures.hand_made_runs import make_run


def test_names_of_runs(tmp_path):
    variants = {"a/run": "vitbert", "b/run": "vitbert_no_kd"}
    paths = [str(make_run(tmp_path / name, variant)) for name, variant in variants.items()]
    assert list(open_runs(paths)) == ["a-run", "b-run"]
    assert list(open_runs(paths[:1])) == ["run"]
    mixed = [*paths, str(make_run(tmp_path / "joint", "joint", "sum"))]
    assert list(open_runs(mixed)) == ["a-run", "b-run", "joint"]
    within = str(make_run(tmp_path / "a" / "run" / "run", "joint", "sum"))
    assert list(open_runs([paths[0], within])) == ["run", "run-run"]
    with pytest.raises(ValueError, match="run"):
        open_runs([paths[0], paths[0]])


def test_runs_without_values(tmp_path):
    run = PretrainedRun(str(make_run(tmp_path / "run", "vitbert", "sum")))
    with pytest.raises(Lacking, match="merge.name=sum"):
        run.masks()
    with pytest.raises(Lacking, match="activation_interval"):
        run.activations()
