"""Runs from Python, as the pages show them: the same as by the commands."""

import pytest

from keras_vitbert import experiment, finetune, open_run
from pipelines.command_line import run
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


@pytest.mark.slow
def test_a_fine_tuning_in_python_is_that_of_the_command(finished, image_task, tmp_path):
    inputs = {"checkpoint": str(finished("vit")), "data_dir": str(image_task)}
    values = {"steps": 3, "batch": 4, "image_size": 12}
    opened = open_run(experiment("images", **values), str(tmp_path / "mine"), **inputs)
    summary = opened.train()
    argv = [f"--{name}={value}" for name, value in inputs.items()]
    argv += [f"--config.{field}={value}" for field, value in values.items()]
    assert run(finetune.main, [*argv, f"--output_dir={tmp_path / 'command'}"]) == 0
    assert summary["splits"] == summary_of(tmp_path / "command")["splits"]
    assert opened.step == 3
    for split, measures in opened.evaluate().items():
        for name, value in measures.items():
            known = summary["splits"][split][name]
            assert value == (known["median"] if isinstance(known, dict) else known)
