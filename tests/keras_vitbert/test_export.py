"""`python -m keras_vitbert.export`."""

from keras_vitbert import export
from pipelines import command_line


def test_the_command(embedder, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("keras_vitbert.trained.loading.load", lambda path, dtype: embedder)
    flags = "--checkpoint=it", f"--output_dir={tmp_path}", "--name=m", "--version=20251101"
    assert command_line.run(export.main, flags) == 0
    assert capsys.readouterr().out == f"{tmp_path}/m/20251101: embed_image\n"
    assert f'"{tmp_path}/m"' in (tmp_path / "models.config").read_text()
