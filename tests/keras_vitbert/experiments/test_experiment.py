"""Runs from Python, as the pages show them: the same as by the commands."""

import pytest

from keras_vitbert import experiment, open_run
from tests.keras_vitbert.tiny_runs import (
    assert_same_values,
    checkpoint_values,
    metrics_rows,
    summary_of,
)


def test_a_pretraining_in_python_is_that_of_the_command(sources, finished, tmp_path):
    opened = open_run(experiment(f"{sources}/config.py", variant="vit"), str(tmp_path / "mine"))
    summary = opened.train()
    whole = finished("vit")
    assert summary["validation"] == summary_of(whole)["validation"]
    assert metrics_rows(tmp_path / "mine") == metrics_rows(whole)
    assert_same_values(checkpoint_values(tmp_path / "mine"), checkpoint_values(whole))
    assert opened.step == 10
    assert opened.evaluate() == pytest.approx(summary["validation"], rel=1e-6)
    earlier = min((tmp_path / "mine" / "checkpoints").glob("step-*")).name
    (tmp_path / "mine" / "checkpoints" / "LAST").write_text(earlier)
    assert opened.step == int(earlier.removeprefix("step-")) < 10
    assert opened.evaluate()["image_loss"] != pytest.approx(summary["validation"]["image_loss"])
