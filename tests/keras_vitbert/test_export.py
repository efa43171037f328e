"""`python -m keras_vitbert.export`."""

import importlib.util

import pytest

from keras_vitbert import export
from pipelines import command_line


def test_the_command(embedder, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("keras_vitbert.trained.loading.load", lambda path, dtype: embedder)
    flags = "--checkpoint=it", f"--output_dir={tmp_path}", "--name=m", "--version=20251101"
    assert command_line.run(export.main, flags) == 0
    assert capsys.readouterr().out == f"{tmp_path}/m/20251101: embed_image\n"
    assert f'"{tmp_path}/m"' in (tmp_path / "models.config").read_text()


@pytest.mark.parametrize(
    ("flags", "culprit"),
    [
        (["--format=onnx", "--version=1"], "--version"),
        (["--format=litert", "--dtype=float32"], "--dtype"),
        (["--int8"], "--int8"),
        (["--format=onnx", "--runtime=it"], "--runtime"),
        (["--format=html"], "npm pack onnxruntime-web"),
        (["--format=onnx"], "already exists"),
        (["--format=onnx", "--output_dir=gs://bucket/it"], "gs://bucket/it"),
    ],
)
def test_refused_before_a_model_is_opened(flags, culprit, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("keras_vitbert.trained.loading.load", None)
    (tmp_path / "mine").touch()
    line = ["--checkpoint=it", f"--output_dir={tmp_path}", *flags]
    assert command_line.run(export.main, line) == command_line.EXIT_BAD_INPUT
    assert culprit in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_page(embedder, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr("keras_vitbert.trained.loading.load", lambda path, dtype: embedder)
    monkeypatch.setattr(
        "keras_vitbert.trained.portable.page.write_page",
        lambda trained, path, *given: seen.append(given) or (tmp_path / "it").mkdir(),
    )
    flags = "--format=html", "--runtime=package", "--int8", "--name=mine"
    line = ["--checkpoint=it", f"--output_dir={tmp_path}/it", *flags]
    assert command_line.run(export.main, line) == 0
    assert seen == [("package", "mine", True)]


def test_an_extra_that_is_missing(tmp_path, monkeypatch, capsys):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tf2onnx" else find_spec(name)
    )
    line = ["--checkpoint=it", f"--output_dir={tmp_path}", "--format=onnx"]
    assert command_line.run(export.main, line) == command_line.EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert "tf2onnx is not installed" in error and "[onnx]" in error
