"""A run's folder: its logs and its damaged files."""

import pytest

from keras_vitbert.runs.run_folder import RunFolder


@pytest.mark.parametrize("text", ["step,loss\n1\n", "loss\n1\n", "\udcff"])
def test_a_damaged_log_is_named(tmp_path, text):
    (tmp_path / "metrics.csv").write_text(text, errors="surrogateescape")
    with pytest.raises(ValueError, match=f"^{tmp_path}/metrics.csv is damaged"):
        RunFolder(str(tmp_path)).rows(up_to_step=9)
