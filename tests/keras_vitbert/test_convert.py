"""`python -m keras_vitbert.convert`: of runs and of models from elsewhere."""

import json

import ml_dtypes
import numpy as np
import tensorflow as tf

from keras_vitbert import convert
from keras_vitbert.runs.provenance import weights_sha256
from keras_vitbert.trained.loading import load
from keras_vitbert.trained.trained_model import origin_of
from pipelines.command_line import run
from tests.keras_vitbert.tiny_runs import content_of, files_below, pretrain, summary_of


def test_a_run_becomes_a_preset_with_its_card(finished, tmp_path):
    folder, source = tmp_path / "new" / "preset", finished("joint")
    assert run(convert.main, [f"--checkpoint={source}", f"--output_dir={folder}"]) == 0
    card, summary = (folder / "README.md").read_text(), summary_of(source)
    value = summary["validation"]["image_accuracy"]
    assert f"| image classification accuracy | {value:.4f} |" in card
    assert "`merge.image_loss_ratio` | 0.2 |" in card and "cagrad" not in card
    assert f"| images | sha256 `{summary['inputs']['images'][:12]}` |" in card
    ours, theirs = load(str(folder)), load(str(source))
    assert ours.classes == theirs.classes == ["cat", "dog", "tench"]
    images = {"images": np.random.default_rng(0).random((2, 8, 8, 3), np.float32)}
    logits = (t.heads["image"](t.backbone(images)["image_sequence"][:, 0]) for t in (ours, theirs))
    np.testing.assert_array_equal(*logits)
    origin = content_of(folder / "origin.json")
    made_of = origin["made_of"]
    assert made_of["versions"] == summary["versions"] and not made_of["accepted_changes"]
    assert made_of["inputs"] == summary["inputs"] == theirs.record["inputs"]
    assert origin["weights_sha256"] == weights_sha256(theirs.backbone)
    assert origin_of(ours) == {**origin, "name": "preset", "step": 0, "made_of": origin}
    # Where data lay is not told.
    assert str(source.parent) not in card + json.dumps(origin)


def test_weights_of_a_run_take_its_place(sources, finished, tmp_path, capsys):
    folder, source = tmp_path / "weights", finished("joint")
    command = [f"--checkpoint={source}", f"--output_dir={folder}", "--format=run"]
    assert run(convert.main, [*command, "--dtype=bfloat16"]) == 0
    ours, theirs = load(str(folder)), load(str(source))
    assert ours.classes == theirs.classes and ours.vocabulary == theirs.vocabulary
    assert ours.step == theirs.step and ours.heads.keys() == theirs.heads.keys() == {"image", "mlm"}
    for rounded, weight in zip(ours.network.weights, theirs.network.weights, strict=True):
        value = weight.numpy().astype(ml_dtypes.bfloat16).astype(np.float32)
        np.testing.assert_array_equal(rounded.numpy(), value, err_msg=weight.path)
    stored = tf.train.load_checkpoint(f"{ours.checkpoint}/state")
    assert tf.float32 not in stored.get_variable_to_dtype_map().values()
    # Of what is stored, not of what it was rounded from.
    assert content_of(folder / "origin.json") == origin_of(ours)
    for file in folder.rglob("*"):
        assert not file.is_file() or str(source.parent).encode() not in file.read_bytes(), file

    # No run goes on from weights alone, as if it had not been finished.
    (folder / "summary.json").unlink()
    before = files_below(folder)
    flags = ["--variant=joint", "--config.inspection.activation_interval=5"]
    assert pretrain(sources, folder, *flags) == 2
    assert str(folder) in capsys.readouterr().err.splitlines()[-1]
    assert files_below(folder) == before
