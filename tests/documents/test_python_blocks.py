"""Every Python block in the documents runs, and shows what its comments say."""

import ast
import re

import pytest

from tests.documents.markdown import DOCUMENTS, Piece


def run(block, names):
    """Runs a block; where an expression is followed by a comment with a value, it must be that.

    Args:
        block: `Piece`.
        names: dict, the global names of the page so far.
    """
    lines = block.text.splitlines()
    for statement in ast.parse(block.text).body:
        source = ast.Module([statement], [])
        if not isinstance(statement, ast.Expr):
            exec(compile(source, block.where, "exec"), names)
            continue
        value = eval(compile(ast.Expression(statement.value), block.where, "eval"), names)
        comment = lines[statement.end_lineno - 1].encode()[statement.end_col_offset :].decode()
        if re.match(r"\s*# [\[(\d'\"]", comment):
            shown = ast.literal_eval(comment.strip("# "))
            assert value == shown, f"{block.where}: {value!r}, not {shown!r}"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with what the blocks open: the run of the sample, untrained, and a preset."""
    import tensorflow as tf

    from keras_vitbert import ViTBertBackbone
    from keras_vitbert.configs.devices import Devices
    from keras_vitbert.configs.loading import load_config
    from keras_vitbert.experiments.pretraining.trainer import build_trainer
    from keras_vitbert.runs import checkpoints
    from keras_vitbert.runs.identity import Identity, experiment_dict
    from keras_vitbert.runs.run_folder import RunFolder
    from keras_vitbert.trained import hub
    from keras_vitbert.training.distillation import Teachers
    from pipelines.text.wordpiece import SPECIAL_TOKENS

    monkeypatch.chdir(tmp_path)
    config = load_config("sample").for_devices(Devices())
    trainer = build_trainer(config, tf.distribute.get_strategy(), Teachers())
    run_folder = RunFolder("runs/sample-vitbert")
    classes = list("0123456789")
    experiment = experiment_dict(config)
    about = {"vocabulary": list(SPECIAL_TOKENS), "classes": classes, "about": {"records": {}}}
    Identity(experiment, {}, **about).begin(run_folder)
    checkpoints.write(run_folder.checkpoints, checkpoints.snapshot(trainer), keep=1)
    parts = {"baselines": {}, "mask": {}, "bad_records": []}
    validation = {"image_accuracy": 0.1}
    run_folder.finish({"steps": 500, "seconds": 1.0, "validation": validation, **parts})

    backbone = ViTBertBackbone(1, 1, 8, 8, image_size=8, patch_size=4, vocabulary_size=None)
    preprocessor = hub.ViTBertImageClassifierPreprocessor(
        hub.ViTBertImageConverter((8, 8)), class_names=["cat", "dog"]
    )
    hub.ViTBertImageClassifier(backbone, 2, preprocessor).save_to_preset("presets/pets")


PAGES = [document for document in DOCUMENTS if document.blocks("python")]


@pytest.mark.usefixtures("folder")
def test_python_blocks():
    assert len(PAGES) >= 3
    for page in PAGES:
        names = {}
        for block in page.blocks("python"):
            run(block, names)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("import keras_vitbert\nkeras_vitbert.lode", AttributeError),
        ("x = 1\n(x, 2)  # (1, 3)", AssertionError),
    ],
)
def test_errors_are_found(text, error):
    with pytest.raises(error):
        run(Piece("here", text), {})
    run(Piece("here", "x = 1\n(x, 2)  # (1, 2)"), {})
