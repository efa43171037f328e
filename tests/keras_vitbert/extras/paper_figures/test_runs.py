"""What is read of finished runs for their figures."""

import numpy as np
import pytest

from keras_vitbert.extras.paper_figures.runs import Lacking, PretrainedRun, open_runs
from keras_vitbert.trained.sharing import write_weights
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
    strange = str(make_run(tmp_path / "a run, $1", "joint", "sum"))
    assert list(open_runs([f"{strange}/"])) == ["a_run___1"]
    with pytest.raises(ValueError, match="run"):
        open_runs([paths[0], paths[0]])


def test_masks_come_from_the_checkpoint(run_with_checkpoint, older_run):
    masks = dict(np.load(run_with_checkpoint("vitbert_no_kd").with_name("masks.npz")))
    (found,) = older_run.masks()
    assert found.step == 10 and found.entries.sum() == sum(mask.size for mask in masks.values())
    assert found.cleared.sum() == sum((~mask).sum() for mask in masks.values())
    kept = masks["block_0/self_attention_layer/key/kernel"]
    np.testing.assert_array_equal(found.kept["block_0"]["key"], kept.reshape(8, 8))


def test_runs_without_masks(tmp_path):
    run = PretrainedRun(str(make_run(tmp_path / "run", "vitbert", "sum")))
    with pytest.raises(Lacking, match="merge.name=sum"):
        run.masks()


def test_weights_have_no_masks(older_run, tmp_path):
    """Of a masked run: `convert --format=run` leaves them out."""
    write_weights(older_run.trained, str(tmp_path), "bfloat16")
    run = PretrainedRun(str(tmp_path))
    with pytest.raises(Lacking, match="weights"):
        run.masks()
