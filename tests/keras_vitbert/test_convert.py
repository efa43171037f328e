"""`python -m keras_vitbert.convert`: of runs and of models from elsewhere."""

import json
import os

import numpy as np
import pytest

from keras_vitbert import convert
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


@pytest.mark.parametrize(
    "change, message",
    [
        (["--checkpoint="], "--checkpoint is missing"),
        (["--output_dir="], "--output_dir is missing"),
        (["--output_dir=gs://bucket/preset"], "keras_hub.upload_preset"),
        (["--task=text_classifier"], "has none; it has image_classifier, masked_lm, backbone"),
        (["--tasks=x"], "--help lists the flags"),
    ],
)
def test_bad_flags_are_told_in_a_line(change, message, finished, tmp_path, capsys):
    source = finished("joint")
    capsys.readouterr()
    flags = [f"--checkpoint={source}", f"--output_dir={tmp_path}/preset", *change]
    assert run(convert.main, flags) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and message in error and "\n" not in error
    assert not os.listdir(tmp_path)


def test_what_is_there_is_not_written_over(finished, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    source = finished("joint")
    assert run(convert.main, [f"--checkpoint={source}", f"--output_dir={tmp_path}"]) == 2
    assert "already exists" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["file"]


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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bert", "is a BERT, which normalises after its blocks"),
        ("deit", "DeiT"),
        ("", "--checkpoint="),
    ],
)
def test_what_cannot_be_ours_is_refused(name, message, tmp_path, capsys):
    source = str(FIXTURES / name) if name else str(tmp_path / "nothing")
    flags = [f"--checkpoint={source}", f"--output_dir={tmp_path}/preset"]
    assert run(convert.main, flags) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and message in error and "\n" not in error
    assert not os.listdir(tmp_path)
