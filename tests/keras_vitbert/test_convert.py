"""`python -m keras_vitbert.convert`: of runs and of models from elsewhere."""

import json
import os

import numpy as np

from keras_vitbert import convert
from keras_vitbert.runs import identity
from keras_vitbert.trained.loading import load
from pipelines.command_line import run
from tests.keras_vitbert.importing.stored_models import FIXTURES, image_tokens


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
    assert "pipeline_tag: image-classification" in card and "gender and race" in card
    assert "`merge.mask_update_interval` | 2 |" in card and "classes | 3: cat, dog, tench" in card
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
    wanted = {name: {**content} for name, content in summary["inputs"].items()}
    for content in wanted.values():
        del content["path"]
    vocabulary = {"sha256": theirs.record["vocabulary_sha256"]}
    assert made_of["inputs"] == {**wanted, "vocabulary": vocabulary} and {
        "images",
        "texts",
        "classes",
    } <= set(wanted)
    assert origin["weights_sha256"] == identity.weights_input(theirs.backbone)["sha256"]
    assert f"| images | sha256 `{wanted['images']['sha256'][:12]}` |" in card
    assert str(tmp_path) not in text and os.path.dirname(source) not in text
    assert identity.origin(ours) == {**origin, "name": "preset", "step": 0, "made_of": origin}


def test_the_command_writes_a_preset(tmp_path, capsys):
    folder, source = str(tmp_path / "preset"), str(FIXTURES / "vit_model")
    assert run(convert.main, [f"--checkpoint={source}", f"--output_dir={folder}"]) == 0
    assert capsys.readouterr().out == f"backbone of vit_model: {folder}\n"
    trained = load(folder)
    tokens, stored = image_tokens(trained.backbone, "vit_model")
    np.testing.assert_allclose(tokens, stored["tokens"], rtol=0, atol=1e-5)
    card = (tmp_path / "preset" / "README.md").read_text()
    assert "of another project" in card and "## Training" not in card
    assert trained.backbone.layer_norm_epsilon == 1e-3 and trained.heads == {}
