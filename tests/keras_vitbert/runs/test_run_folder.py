"""A run's folder: its logs and its damaged files."""

import os
import pathlib
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.runs.run_folder import RunFolder

SAVED = pathlib.Path(__file__).parents[1] / "trained" / "saved"


@pytest.mark.parametrize("text", ["step,loss\n1\n", "step,loss\n1,0.5", "loss\n1\n", "", "\udcff"])
def test_a_damaged_log_is_named(tmp_path, text):
    (tmp_path / "metrics.csv").write_text(text, errors="surrogateescape")
    with pytest.raises(ValueError, match=f"^{tmp_path}/metrics.csv is damaged"):
        RunFolder(str(tmp_path)).rows(up_to_step=9)


def test_later_rows_may_have_other_columns(tmp_path):
    folder, images = RunFolder(str(tmp_path)), " ".join(f"x:{n}" for n in range(50_000))
    folder.write_rows([{"step": 4, "loss": 1.5}, {"step": 8, "loss": 0.25, "images": images}])
    assert folder.rows(up_to_step=7) == [{"step": "4", "loss": "1.5", "images": ""}]
    assert folder.rows(up_to_step=8)[1]["images"] == images


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{", b"[]"])
def test_a_damaged_summary_is_named(tmp_path, content):
    (tmp_path / "summary.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"^{tmp_path}/summary.json is damaged"):
        RunFolder(str(tmp_path)).summary()


MEMORY = pathlib.Path("/proc/self/smaps_rollup")


@pytest.mark.slow
@pytest.mark.skipif(not MEMORY.exists(), reason="asks Linux for the memory")
def test_numbers_that_were_logged_do_not_stay_in_memory(tmp_path):
    """TensorFlow keeps a tensor of each Python number that it is given, 765 bytes."""
    folder, random = RunFolder(str(tmp_path)), np.random.default_rng(0)

    def log(epochs):
        for step in random.integers(2**40, size=epochs).tolist():
            numbers = random.random(40).tolist()
            folder.log_scalars("train", step, {f"tag{n}": x for n, x in enumerate(numbers)})

    def megabytes():
        found = re.search(r"^Anonymous: +(\d+) kB", MEMORY.read_text(), re.MULTILINE)
        return int(found[1]) / 1024

    log(50)
    before = megabytes()
    log(200)  # would be 6 MB
    assert megabytes() - before < 2


def test_a_pipe_is_not_read(tmp_path, monkeypatch):
    shutil.copytree(SAVED / "run", tmp_path / "run")
    folder = RunFolder(str(tmp_path / "run"))
    assert folder.record() is not None
    monkeypatch.setattr(tf.io.gfile, "GFile", lambda *_: pytest.fail("the pipe is opened"))
    (tmp_path / "run" / "summary.json").unlink()
    os.mkfifo(tmp_path / "run" / "summary.json")
    with pytest.raises(ValueError, match="summary.json: is a pipe"):
        folder.summary()
