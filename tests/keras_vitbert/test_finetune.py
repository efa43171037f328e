"""Whole runs of `finetune`: what they report, leave, resume, and evaluate again."""

import json
import math
import re
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_vitbert.runs import checkpoints
from keras_vitbert.trained.loading import load
from pipelines.command_line import EXIT_BAD_INPUT, EXIT_DIVERGED, EXIT_DONE, EXIT_STOPPED
from tests.forked import Forked
from tests.keras_vitbert.experiments.fine_tuning import replicas_script
from tests.keras_vitbert.killed import signal_at
from tests.keras_vitbert.tiny_runs import files_below, summary_of
from tests.keras_vitbert.tiny_tasks import finetune, rows_of


def test_results_on_other_data_are_not_given_as_those_of_these(
    text_run, text_flags, text_task, tmp_path, capsys
):
    """Every label is turned round; all else stays as it was."""
    folder, task = tmp_path / "run", tmp_path / "task"
    shutil.copytree(text_run, folder)
    before = files_below(folder)
    shutil.copytree(text_task, task)
    for file in task.glob("*.tsv"):
        for label, other in (("no", "?"), ("yes", "no"), ("?", "yes")):
            file.write_text(file.read_text().replace(f"\t{label}\n", f"\t{other}\n"))
    flags = [*text_flags, f"--data_dir={task}", f"--output_dir={folder}"]
    assert finetune(*flags) == EXIT_BAD_INPUT
    error = capsys.readouterr().err.splitlines()[-1]
    assert str(folder) in error and "train" in error
    assert files_below(folder) == before

    assert finetune(*flags, "--accept_changes=train,validation") == EXIT_DONE
    changes = [change["name"] for change in summary_of(folder)["accepted_changes"]]
    assert changes == ["train", "validation"]


def test_tensorboard_shows_confusion_and_classes(text_run):
    folder, summary = text_run, summary_of(text_run)
    events = EventAccumulator(str(folder / summary["model"] / "validation")).Reload()
    assert {"confusion/validation", "classes/validation"} <= set(events.Tags()["tensors"])
    *_, last = rows_of(folder / summary["model"] / "metrics.csv")
    assert summary["steps"] == int(last["step"]) == 4
    measures, model = summary["splits"]["validation"], summary["trials"].index(summary["model"])
    for column, name in (("accuracy", "accuracy"), ("loss", "log_loss"), ("ece", "ece")):
        [value] = events.Tensors(f"{column}/{column}")
        assert float(tf.make_ndarray(value.tensor_proto)) == pytest.approx(
            measures[name]["values"][model]
        )
        assert float(last[f"val_{column}"]) == measures[name]["values"][model]


def test_the_table_is_the_summary(text_run, text_flags, tmp_path, capsys):
    """Also when what is finished is asked for again."""
    folder = tmp_path / "run"
    shutil.copytree(text_run, folder)
    capsys.readouterr()
    assert finetune(*text_flags, f"--output_dir={folder}") == EXIT_DONE
    out = capsys.readouterr().out
    summary = summary_of(text_run)
    assert summary_of(folder) == summary
    for name in ("accuracy", "f1", "mcc"):
        value = summary["splits"]["validation"][name]["median"]
        assert re.search(rf"validation +13 +{name} +{value:.4f} +{value:.4f}", out)
    assert "0.01 (given)" in out


@pytest.mark.slow
def test_a_stopped_sweep_ends_the_same(swept, image_flags, tmp_path):
    """Stopped within the second rate, and once in the last step of a seed."""
    flags = [*image_flags, "--sweep", "--seeds=2", f"--output_dir={tmp_path}"]
    signal_at(3, signal.SIGTERM, "sweep-rate-0.03-seed-0")
    assert finetune(*flags) == EXIT_STOPPED
    stopped = tmp_path / "trials" / "sweep-rate-0.03-seed-0"
    assert checkpoints.latest(str(stopped / "checkpoints"))[1] == 3
    assert (tmp_path / "trials" / "sweep-rate-0.003-seed-0" / "result.json").exists()
    assert not (stopped / "result.json").exists()
    signal_at(5, signal.SIGTERM, "seed-1")
    finetune(*flags)
    assert finetune(*flags) == EXIT_DONE

    ours, wanted = (
        [{**row, "seconds": ""} for row in rows_of(folder / "results.csv")]
        for folder in (tmp_path, swept)
    )
    assert ours == wanted
    assert json.loads((stopped / "result.json").read_text())["resumed_from_step"] == 3
    mine, theirs = load(str(tmp_path)).network, load(str(swept)).network
    for one, other in zip(mine.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(one.value), np.asarray(other.value))


@pytest.mark.slow
def test_random_weights_of_an_architecture(finished, text_flags, tmp_path):
    """And every option at once."""
    run = ["--checkpoint=rand", f"--architecture={finished('joint')}", f"--output_dir={tmp_path}"]
    options = [
        "--config.optimizer.ema=0.9",
        "--config.optimizer.layer_decay=0.8",
        "--config.label_smoothing=0.1",
        "--config.lora_rank=2",
        "--config.evaluation_interval=2",
        "--config.dtype=mixed_bfloat16",
    ]
    assert finetune(*text_flags, *run, *options) == EXIT_DONE
    summary = summary_of(tmp_path)
    assert summary["transfer"]["encoder"] == summary["transfer"]["embedding"] == "fresh"
    assert 0 < summary["trained_parameters"] < summary["parameters"]
    trained = load(str(tmp_path))
    assert trained.classes == ["no", "yes"]
    rows = rows_of(tmp_path / summary["model"] / "metrics.csv")
    assert all(row["val_accuracy"] for row in rows)
    # The embedding is fresh, so it is trained although the encoder's weights are not.
    embedding = sum(math.prod(w.shape) for w in trained.network.embedding.weights)
    assert summary["trained_parameters"] > embedding


@pytest.mark.slow
def test_a_rate_far_too_high(text_flags, tmp_path, capsys):
    flags = ["--config.optimizer.name=sgd", "--config.optimizer.warmup=0"]
    flags += ["--config.optimizer.learning_rate=1e30", f"--output_dir={tmp_path / 'one'}"]
    assert finetune(*text_flags, *flags) == EXIT_DIVERGED
    assert "1e+30" in capsys.readouterr().err.splitlines()[-1]
    # In a sweep it is a result.
    flags += ["--sweep", "--config.grid=(1e-3,1e30)", f"--output_dir={tmp_path / 'two'}"]
    assert finetune(*text_flags, *flags) == EXIT_DONE
    summary = summary_of(tmp_path / "two")
    assert summary["learning_rate"] == 1e-3 and summary["sweep"]["1e+30"] is None


@pytest.mark.slow
def test_replicas_find_the_same(swept, text_run, image_task, text_task, tmp_path):
    """Evaluation on 1, 2 and 4 replicas, to the last example; training on 2 to rounding."""
    path = tmp_path / "found.json"
    runs = map(str, (swept, image_task, text_run, text_task))
    status, errors = Forked(replicas_script.main, str(path), *runs).end()
    assert status == 0, errors[-3000:]
    found = json.loads(path.read_text())
    for folder, name in ((swept, "images"), (text_run, "text")):
        summary = summary_of(folder)
        kept = rows_of(folder / summary["model"] / "predictions.csv")
        for replicas in ("1", "2", "4"):
            assert found[name][replicas]["labels"] == [row["label"] for row in kept]
            assert found[name][replicas]["predictions"] == [row["prediction"] for row in kept]
            losses = summary["splits"]["validation"]["log_loss"]["values"]
            of_model = losses[summary["trials"].index(summary["model"])]
            assert np.mean(found[name][replicas]["losses"]) == pytest.approx(of_model, abs=1e-5)
        one, two = (np.array(found[name][f"trained_{n}"]) for n in (1, 2))
        assert np.abs(one - np.array(found[name]["before"])).max() > 1e-3
        np.testing.assert_allclose(two, one, atol=5e-5)
