"""What is read of finished runs for their figures."""

import pytest

from keras_vitbert.extras.paper_figures.runs import open_runs
from tests.keras_vitbert.extras.paper_figures.hand_made_runs import make_run


def test_names_of_runs(tmp_path):
    variants = {"a/run": "vitbert", "b/run": "vitbert_no_kd"}
    paths = [str(make_run(tmp_path / name, variant)) for name, variant in variants.items()]
    assert list(open_runs(paths)) == ["a-run", "b-run"]
    assert list(open_runs(paths[:1])) == ["run"]
    within = str(make_run(tmp_path / "a" / "run" / "run", "joint", "sum"))
    assert list(open_runs([paths[0], within])) == ["run", "run-run"]
    with pytest.raises(ValueError, match="run"):
        open_runs([paths[0], paths[0]])
