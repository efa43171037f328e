"""`python -m keras_vitbert.export`."""

import os
import pathlib

import pytest

from keras_vitbert import export
from pipelines import command_line


@pytest.fixture
def run(embedder, monkeypatch):
    """`run(*flags) -> status` of the command, whatever its checkpoint."""
    monkeypatch.setattr("keras_vitbert.trained.loading.load", lambda path, dtype: embedder)
    return lambda *flags: command_line.run(export.main, list(map(str, flags)))


def test_the_command(run, tmp_path, capsys):
    status = run("--checkpoint=it", f"--output_dir={tmp_path}", "--name=m", "--version=20251101")
    assert status == 0
    assert capsys.readouterr().out == f"{tmp_path}/m/20251101: embed_image\n"
    assert f'"{tmp_path}/m"' in (tmp_path / "models.config").read_text()


@pytest.mark.parametrize(
    "flags, complaint",
    [
        (["--checkpoint=x"], "--output_dir is missing"),
        (["--output_dir=x"], "--checkpoint is missing"),
        (["--checkpoint=x", "--output_dir={file}/y"], "cannot be written to"),
        (["--checkpoint=x", "--output_dir={file}"], "cannot be written to"),
        (["--checkpoint=x", "--output_dir=gs://b/c"], "give a local folder"),
        (["--checkpoint=x", "--output_dir={folder}", "--name=a/b"], "--name=a/b: no valid name"),
        (["--checkpoint=x", "--output_dir={folder}", "--dtype=float16"], "dtype"),
        (["--checkpoint=x", "--output_dir={folder}", "--top_k=0"], "top_k"),
        (["--checkpoint=x", "--output_dir={folder}", "--version=0"], "version"),
        (["--checkpoint=x", "--output_dir={folder}", "more"], "unexpected argument 'more'"),
    ],
)
def test_bad_flags(run, tmp_path, capsys, flags, complaint):
    (tmp_path / "file").write_text("")
    status = run(*(flag.format(file=tmp_path / "file", folder=tmp_path) for flag in flags))
    assert status == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and complaint in lines[0]
    assert {path.name for path in pathlib.Path(tmp_path).iterdir()} == {"file"}


def test_a_checkpoint_that_is_not_there(tmp_path, capsys):
    flags = [f"--checkpoint={tmp_path}/none", f"--output_dir={tmp_path}/out"]
    assert command_line.run(export.main, flags) == 2
    assert "none: no such folder" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
