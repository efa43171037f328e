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
    """What the blocks open: a model as `load` returns it of the sample's run, and a preset."""
    import keras_vitbert
    from keras_vitbert import PreTrainingNetwork, ViTBertBackbone
    from keras_vitbert.trained import hub
    from keras_vitbert.trained.trained_model import TrainedModel

    monkeypatch.chdir(tmp_path)
    backbone = ViTBertBackbone(1, 1, 8, 8, image_size=28, patch_size=14, vocabulary_size=30)
    network, summary = PreTrainingNetwork(backbone, 10), {"validation": {}}
    trained = TrainedModel("", "", backbone, {}, network=network, summary=summary)
    monkeypatch.setattr(keras_vitbert, "load", lambda path: trained)
    backbone = ViTBertBackbone(1, 1, 8, 8, image_size=8, patch_size=4, vocabulary_size=None)
    converter = hub.ViTBertImageConverter((8, 8))
    preprocessor = hub.ViTBertImageClassifierPreprocessor(converter, class_names=["cat", "dog"])
    hub.ViTBertImageClassifier(backbone, 2, preprocessor).save_to_preset("presets/pets")


@pytest.mark.usefixtures("folder")
def test_python_blocks():
    pages = [document.blocks("python") for document in DOCUMENTS]
    assert sum(map(bool, pages)) >= 3
    for blocks in pages:
        names = {}
        for block in blocks:
            run(block, names)


def test_another_value_than_the_comment_says_is_found():
    run(Piece("here", "x = 1\n(x, 2)  # (1, 2)"), {})
    with pytest.raises(AssertionError):
        run(Piece("here", "x = 1\n(x, 2)  # (1, 3)"), {})
