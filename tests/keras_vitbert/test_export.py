"""`python -m keras_vitbert.export`."""

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
