"""What is read of finished runs for their figures."""

import shutil

import keras
import numpy as np
import pytest

from keras_vitbert.model.pretraining_network import image_inputs
from keras_vitbert.paper_figures.finished_runs import FinishedRun, Lacking, open_runs
from keras_vitbert.trained.sharing import write_weights
from tests.keras_vitbert.paper_figures.hand_made_runs import make_run
from tests.keras_vitbert.tiny_runs import VOCABULARY


def test_names_of_runs(tmp_path):
    variants = {"a/run": "vitbert", "b/run": "vitbert_no_kd"}
    paths = [str(make_run(tmp_path / name, variant)) for name, variant in variants.items()]
    assert list(open_runs(paths)) == ["a-run", "b-run"]
    assert list(open_runs(paths[:1])) == ["run"]
    mixed = [*paths, str(make_run(tmp_path / "joint", "joint", "sum"))]
    assert list(open_runs(mixed)) == ["a-run", "b-run", "joint"]
    within = str(make_run(tmp_path / "a" / "run" / "run", "joint", "sum"))
    assert list(open_runs([paths[0], within])) == ["a-run", "run-run"]
    strange = [str(make_run(tmp_path / name, "joint", "sum")) for name in ("a run, $1", "a-run")]
    assert list(open_runs([f"{strange[0]}/"])) == ["a_run___1"]
    assert list(open_runs([*paths, strange[1]])) == ["a-run-1", "b-run", "a-run-3"]


def test_masks_come_from_the_checkpoint(run_with_checkpoint, older_run):
    masks = dict(np.load(run_with_checkpoint("vitbert_no_kd").with_name("masks.npz")))
    (found,) = older_run.masks()
    assert found.step == 10 and found.entries.sum() == sum(mask.size for mask in masks.values())
    assert found.cleared.sum() == sum((~mask).sum() for mask in masks.values())
    kept = masks["block_0/self_attention_layer/key/kernel"]
    np.testing.assert_array_equal(found.kept["block_0"]["key"], kept.reshape(8, 8))


@pytest.mark.parametrize("merge", ["sum", "pcgrad"])
def test_runs_without_masks(tmp_path, merge):
    run = FinishedRun(str(make_run(tmp_path / "run", "vitbert", merge)))
    with pytest.raises(Lacking, match=f"merge.name={merge} has no masks"):
        run.masks()


def test_weights_have_no_masks(older_run, tmp_path):
    """Of a masked run: `convert --format=run` leaves them out."""
    write_weights(older_run.trained, str(tmp_path), "bfloat16")
    run = FinishedRun(str(tmp_path))
    with pytest.raises(Lacking, match="^its folder holds weights only$"):
        run.masks()


def test_sparsity_comes_from_the_log(run_with_checkpoint, tmp_path):
    path = shutil.copytree(run_with_checkpoint("vitbert_no_kd"), tmp_path / "run")
    names = ["mask_sparsity", "mask_sparsity/block_0", "mask_sparsity/final_norm"]
    rows = [
        (2, 0, 0, 0),
        (4, 0.1, 0.2, 0.0),
        (6, 0.1, 0.2, 0.0),
        (8, 0.3, 0.4, 0.25),
        (12, 1, 1, 1),
    ]
    text = "\n".join(",".join(map(str, row)) for row in [["step", *names], *rows])
    (path / "metrics.csv").write_text(text + "\n")
    assert FinishedRun(str(path)).logged_sparsity() == {
        4: {"block_0": 0.2, "final_norm": 0.0},
        8: {"block_0": 0.4, "final_norm": 0.25},
    }
    stored = make_run(tmp_path / "stored", "vitbert_no_kd")
    shutil.copy(path / "metrics.csv", stored)
    assert FinishedRun(str(stored)).logged_sparsity() == {}  # the stored masks say more
    (path / "metrics.csv").unlink()
    assert FinishedRun(str(path)).logged_sparsity() == {}


@pytest.mark.slow
def test_activations_are_measured(older_run):
    """Against NumPy means over all validation examples: there are fewer than would be taken."""
    ((step, found),) = older_run.activations().items()
    backbone, data = older_run.trained.network.backbone, older_run.data
    assert step == 10
    special = [VOCABULARY.index(token) for token in ("[PAD]", "[CLS]", "[SEP]", "[MASK]")]
    for name, source, inputs, is_counted, means in (
        (
            "image",
            data.image_validation,
            ("images",),
            lambda batch: np.tile(np.arange(5) > 0, (7, 1)),  # class token and patches
            found[0],
        ),
        (
            "text",
            data.text_validation,
            ("token_ids", "segment_ids", "padding_mask"),
            lambda batch: ~np.isin(batch["token_ids"].numpy(), special),
            found[1],
        ),
    ):
        (batch,) = source.validation().batch(100)
        batch |= image_inputs(batch) if name == "image" else {}
        model = keras.Model(
            {key: backbone.input[key] for key in inputs},
            backbone.block_outputs[f"{name}_block_0"],
        )
        values = keras.ops.convert_to_numpy(model({key: batch[key] for key in inputs}))
        expected = np.abs(values[is_counted(batch)].astype(np.float64)).mean(axis=0)
        np.testing.assert_allclose(means[0], expected, rtol=1e-4)
