"""A run's folder: its logs and its damaged files."""

import pytest

from keras_vitbert.runs.run_folder import RunFolder


@pytest.mark.parametrize("text", ["step,loss\n1\n", "loss\n1\n", "\udcff"])
def test_a_damaged_log_is_named(tmp_path, text):
    (tmp_path / "metrics.csv").write_text(text, errors="surrogateescape")
    with pytest.raises(ValueError, match=f"^{tmp_path}/metrics.csv is damaged"):
        RunFolder(str(tmp_path)).rows(up_to_step=9)


def test_later_rows_may_have_other_columns(tmp_path):
    folder, images = RunFolder(str(tmp_path)), " ".join(f"x:{n}" for n in range(50_000))
    folder.write_rows([{"step": 4, "loss": 1.5}, {"step": 8, "loss": 0.25, "images": images}])
    assert folder.rows(up_to_step=7) == [{"step": "4", "loss": "1.5", "images": ""}]
    assert folder.rows(up_to_step=8)[1]["images"] == images


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[]"])
def test_a_damaged_summary_is_named(tmp_path, content):
    (tmp_path / "summary.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"^{tmp_path}/summary.json is damaged"):
        RunFolder(str(tmp_path)).summary()
