"""`python -m keras_vitbert.convert`: of runs and of models from elsewhere."""

import json
import os

import ml_dtypes
import numpy as np
import tensorflow as tf

from keras_vitbert import convert, predict
from keras_vitbert.runs.provenance import weights_sha256
from keras_vitbert.trained.loading import load
from keras_vitbert.trained.trained_model import origin_of
from pipelines.command_line import run
from tests.keras_vitbert.tiny_runs import files_below, pretrain


def test_a_run_becomes_a_preset_with_its_card(finished, tmp_path, capsys):
    folder = str(tmp_path / "new" / "preset")
    source = str(finished("joint"))
    capsys.readouterr()
    assert run(convert.main, [f"--checkpoint={source}", f"--output_dir={folder}"]) == 0
    assert capsys.readouterr().out == f"image_classifier of joint: {folder}\n"
    card = open(os.path.join(folder, "README.md"), encoding="utf-8").read()
    summary = json.loads(open(os.path.join(source, "summary.json"), encoding="utf-8").read())
    value = summary["validation"]["image_accuracy"]
    assert f"| image classification accuracy | {value:.4f} |" in card
    assert "`merge.image_loss_ratio` | 0.2 |" in card
    assert "cagrad" not in card and "mask_" not in card
    assert str(tmp_path) not in card  # where data lay is not told
    ours, theirs = load(folder), load(source)
    assert ours.classes == theirs.classes == ["cat", "dog", "tench"]
    images = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    np.testing.assert_array_equal(
        *(
            t.heads["image"](t.backbone({"images": images})["image_sequence"][:, 0])
            for t in (ours, theirs)
        )
    )
    assert sorted(os.listdir(tmp_path / "new")) == ["preset"]  # nothing is left beside it
    text = open(os.path.join(folder, "origin.json"), encoding="utf-8").read()
    origin = json.loads(text)
    made_of = origin["made_of"]
    assert made_of["versions"] == summary["versions"] and not made_of["accepted_changes"]
    wanted = summary["inputs"]
    assert made_of["inputs"] == wanted == theirs.record["inputs"]
    assert {"images", "texts", "classes", "vocabulary"} <= wanted.keys()
    assert origin["weights_sha256"] == weights_sha256(theirs.backbone)
    assert f"| images | sha256 `{wanted['images'][:12]}` |" in card
    assert str(tmp_path) not in text and os.path.dirname(source) not in text
    assert origin_of(ours) == {**origin, "name": "preset", "step": 0, "made_of": origin}


def test_weights_of_a_run_take_its_place(finished, tmp_path, capsys):
    folder, source = str(tmp_path / "weights"), str(finished("joint"))
    command = [f"--checkpoint={source}", f"--output_dir={folder}", "--format=run"]
    assert run(convert.main, [*command, "--dtype=bfloat16"]) == 0
    assert capsys.readouterr().out.endswith(f"weights of joint: {folder}\n")
    ours, theirs = load(folder), load(source)
    assert ours.classes == theirs.classes and ours.vocabulary == theirs.vocabulary
    assert ours.step == theirs.step and ours.heads.keys() == theirs.heads.keys() == {"image", "mlm"}
    pairs = list(zip(ours.network.weights, theirs.network.weights, strict=True))
    for rounded, weight in pairs:
        value = weight.numpy().astype(ml_dtypes.bfloat16).astype(np.float32)
        np.testing.assert_array_equal(rounded.numpy(), value, err_msg=weight.path)
    assert any((rounded.numpy() != weight.numpy()).any() for rounded, weight in pairs)
    stored = tf.train.load_checkpoint(os.path.join(ours.checkpoint, "state"))
    assert tf.float32 not in stored.get_variable_to_dtype_map().values()
    origin = json.loads(open(os.path.join(folder, "origin.json"), encoding="utf-8").read())
    assert origin == origin_of(ours)  # of what is stored, not of what it was rounded from
    for root, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(root, name), "rb") as file:
                assert os.path.dirname(source).encode() not in file.read(), name
    text = "--text=the [MASK]"
    assert run(predict.main, [f"--checkpoint={folder}", text, "--top_k=1"]) == 0
    # Again, from there: the same to the bit.
    again = str(tmp_path / "again")
    command = [f"--checkpoint={folder}", f"--output_dir={again}", "--format=run"]
    assert run(convert.main, command) == 0
    for first, second in zip(load(again).network.weights, ours.network.weights, strict=True):
        np.testing.assert_array_equal(first.numpy(), second.numpy())


def test_no_run_goes_on_from_weights_alone(sources, finished, tmp_path, capsys):
    folder, source = str(tmp_path / "weights"), str(finished("joint"))
    command = [f"--checkpoint={source}", f"--output_dir={folder}", "--format=run"]
    assert run(convert.main, command) == 0
    os.remove(os.path.join(folder, "summary.json"))  # as if the run had not been finished
    before = files_below(folder)
    capsys.readouterr()
    flags = ["--variant=joint", "--config.inspection.activation_interval=5"]
    assert pretrain(sources, folder, *flags) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and folder in error
    assert files_below(folder) == before
