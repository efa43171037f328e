"""`--quick` as a user gives it: runs that are shrunk, trained, and resumed by the same command."""

import pytest

from pipelines.command_line import EXIT_BAD_INPUT
from tests.keras_vitbert.tiny_runs import content_of, pretrain, summary_of
from tests.keras_vitbert.tiny_tasks import finetune, rows_of

# What --quick makes of a long run takes a minute here; these make it smaller.
SMALLER = ("--config.steps=12", "--config.validation_interval=0.5", "--config.text_batch=4")


@pytest.fixture
def large(sources, tmp_path):
    """The tiny data with a config of a large model and a long run."""
    config = (sources / "config.py").read_text()
    changes = "config.steps = 100_000\n    config.steps_per_epoch = 1_000\n"
    changes += "    config.validation_interval = config.checkpoint_interval = 10_000\n"
    changes += "    config.optimizer.warmup_steps = 5_000\n"
    changes += "    config.merge.mask_update_interval = 5_000\n"
    changes += "    config.model.update(num_layers=12, hidden_dim=768, intermediate_dim=3072)\n"
    (tmp_path / "config.py").write_text(config.replace("    return", f"    {changes}    return"))
    return tmp_path


@pytest.mark.slow
def test_a_long_run_made_quick_is_trained_and_goes_on(large, tmp_path, capsys):
    flags = ["--variant=vitbert_no_kd", "--quick", *SMALLER, "--config.model.hidden_dim=8"]
    flags += ["--config.model.num_layers=1"]
    assert pretrain(large, tmp_path / "run", *flags) == 0
    assert "--quick: " in capsys.readouterr().err
    summary, record = (content_of(tmp_path / "run" / f"{n}.json") for n in ("summary", "config"))
    config = record["config"]
    assert (summary["steps"], config["steps"], config["image_batch"]) == (12, 12, 4)
    assert config["validation_interval"] == 6 and config["model"]["hidden_dim"] == 8
    assert summary["mask"]["sparsity"] == pytest.approx(0.5, abs=0.01)  # all updates were made
    rows = rows_of(tmp_path / "run" / "metrics.csv")
    assert [row["step"] for row in rows if row["val_mlm_loss"]] == ["6", "12"]
    # The same command finds it finished; without --quick it is another run.
    assert pretrain(large, tmp_path / "run", *flags) == 0
    assert "12 steps are done" in capsys.readouterr().err
    others = ["--variant=vitbert_no_kd", "--config.teachers.image_steps=0"]
    others += ["--config.teachers.text_steps=0"]
    assert pretrain(large, tmp_path / "run", *others) == EXIT_BAD_INPUT
    assert "holds a run with config." in capsys.readouterr().err


@pytest.mark.slow
def test_a_part_of_the_test_examples_is_reported(finished, text_task, tmp_path, capsys):
    flags = [f"--checkpoint={finished('joint')}", "--task=tsv", f"--data_dir={text_task}"]
    quick = [*flags, "--quick", "--config.steps=4", "--config.batch=4"]
    quick += ["--config.test_examples=5", f"--output_dir={tmp_path / 'run'}"]
    assert finetune(*quick, f"--predictions={tmp_path / 'all.csv'}") == 0
    err = capsys.readouterr().err
    assert "validation: 5 of its 13 examples are reported (--config.test_examples)" in err
    assert "--quick: checkpoint_interval=2, steps_per_epoch=1\n" in err
    summary, predictions = summary_of(tmp_path / "run"), rows_of(tmp_path / "all.csv")
    right = sum(row["label"] == row["prediction"] for row in predictions)
    assert len(predictions) == summary["splits"]["validation"]["examples"] == 5
    assert summary["splits"]["validation"]["accuracy"]["median"] == pytest.approx(right / 5)
    assert finetune(*quick) == 0  # it is finished
    assert finetune(*quick, "--config.test_examples=6") == EXIT_BAD_INPUT
    assert "holds a run on 5 validation, not 6" in capsys.readouterr().err
    # Evaluated again, the model answers to all examples.
    flags[0] = f"--checkpoint={tmp_path / 'run'}"
    assert finetune("--evaluate_only", *flags) == 0
    assert "validation, 13 examples" in capsys.readouterr().out
