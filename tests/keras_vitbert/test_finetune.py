"""Whole runs of `finetune`: what they report, leave, resume, and evaluate again."""

import json
import math
import os
import re
import shutil
import signal
import statistics

import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics as sklearn_metrics
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_vitbert.runs import checkpoints
from keras_vitbert.trained.loading import load
from pipelines.command_line import EXIT_BAD_INPUT, EXIT_DIVERGED, EXIT_DONE, EXIT_STOPPED
from tests.forked import Forked
from tests.keras_vitbert.experiments.fine_tuning import replicas_script
from tests.keras_vitbert.inspection.sessions import hparams
from tests.keras_vitbert.tiny_runs import (
    assert_same_values,
    checkpoint_values,
    content_of,
    files_below,
    summary_of,
)
from tests.keras_vitbert.tiny_tasks import (
    CLASSES,
    IMAGES,
    RATES,
    finetune,
    rows_of,
)
from tests.marks import slow

# --- what is reported --------------------------------------------------------------------------


@pytest.mark.slow
def test_a_sweep_picks_on_examples_that_are_not_reported(swept):
    summary, rows = summary_of(swept), rows_of(swept / "results.csv")
    sweep = [row for row in rows if row["purpose"] == "sweep"]
    assert [float(row["learning_rate"]) for row in sweep] == list(RATES)
    # A tenth of the 26 training images is cut off; the reported runs train on all of them.
    assert {(row["split"], row["examples"]) for row in sweep} == {("selection", "3")}
    assert summary["learning_rate_picked_on"] == "3 of the 26 training examples"
    assert summary["training_examples"] == IMAGES["train"]
    best = max(sweep, key=lambda row: (float(row["accuracy"]), -float(row["learning_rate"])))
    assert summary["learning_rate"] == float(best["learning_rate"])
    assert summary["transfer"] == {
        "encoder": "kept",
        "embedding": "interpolated",
        "head": "fresh",
    }
    values = summary["splits"]["validation"]["accuracy"]["values"]
    model = summary["trials"][values.index(statistics.median_low(values))]
    assert summary["model"] == model and (swept / model / "checkpoints" / "LAST").exists()
    for name in os.listdir(swept / "trials"):
        is_reported = name.startswith("seed")
        assert (swept / "trials" / name / "checkpoints").exists() == is_reported


def test_results_on_other_data_are_not_given_as_those_of_these(
    text_run, text_flags, text_task, tmp_path, capsys
):
    """Every label is turned round; all else stays as it was."""
    folder, task = tmp_path / "run", tmp_path / "task"
    shutil.copytree(text_run, folder)
    before = files_below(folder)
    shutil.copytree(text_task, task)
    for split in ("train", "dev"):
        file = task / f"{split}.tsv"
        other = {"yes": "no", "no": "yes"}
        rows = [line.split("\t") for line in file.read_text().splitlines()]
        rows = [[*row[:-1], other.get(row[-1], row[-1])] for row in rows]
        file.write_text("".join("\t".join(row) + "\n" for row in rows))
    flags = [*text_flags, f"--data_dir={task}", f"--output_dir={folder}"]
    for seeds in (1, 2):
        assert finetune(*flags, f"--seeds={seeds}") == EXIT_BAD_INPUT
        error = capsys.readouterr().err.splitlines()[-1]
        assert str(folder) in error and "train" in error
    assert files_below(folder) == before

    assert finetune(*flags, "--accept_changes=train,validation") == EXIT_DONE
    assert [change["name"] for change in summary_of(folder)["accepted_changes"]] == [
        "train",
        "validation",
    ]


def test_a_split_that_is_added_is_evaluated(text_run, text_flags, text_task, tmp_path):
    """Nothing is trained again."""
    folder, task = tmp_path / "run", shutil.copytree(text_task, tmp_path / "task")
    shutil.copytree(text_run, folder)
    shutil.copy(task / "dev.tsv", task / "test.tsv")
    [before] = (text_run / "trials").glob("*/checkpoints")
    flags = [*text_flags, f"--data_dir={task}", f"--output_dir={folder}"]
    assert finetune(*flags) == EXIT_DONE
    known, summary = summary_of(text_run)["splits"]["validation"], summary_of(folder)
    assert summary["split"] == "test" and summary["splits"] == {"test": known, "validation": known}
    [after] = (folder / "trials").glob("*/checkpoints")
    assert files_below(after) == files_below(before)


EACH_RUN = ["text_run", slow("swept")]


@pytest.fixture
def run(request):
    """The folder of one of the runs, its classes, and how many examples of each are evaluated."""
    folder = request.getfixturevalue(request.param)
    if request.param == "swept":
        return folder, CLASSES, [4, 4, 3]
    return folder, ["no", "yes"], [3, 10]


@pytest.mark.parametrize("run", EACH_RUN, indirect=True)
def test_scikit_learn_finds_the_same_in_the_predictions(run):
    folder, classes, counts = run
    rows = rows_of(folder.parent / "all.csv")
    results = [row for row in rows_of(folder / "results.csv") if row["purpose"] == "seed"]
    assert len(results) == len(summary_of(folder)["seeds"])
    assert len(rows) == len(results) * sum(counts)
    average = "binary" if len(classes) == 2 else "macro"
    for result in results:
        own = [row for row in rows if row["seed"] == result["seed"]]
        labels, predictions = (
            [classes.index(row[column]) for row in own] for column in ("label", "prediction")
        )
        assert float(result["accuracy"]) == sklearn_metrics.accuracy_score(labels, predictions)
        f1 = sklearn_metrics.f1_score(labels, predictions, average=average, zero_division=0)
        assert float(result["f1"]) == pytest.approx(f1, abs=1e-12)
        mcc = sklearn_metrics.matthews_corrcoef(labels, predictions)
        assert float(result["mcc"]) == pytest.approx(mcc, abs=1e-12)
        assert np.bincount(labels).tolist() == counts
        for row in own:
            shares = {name: float(row[f"probability_{name}"]) for name in classes}
            assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
            assert shares[row["prediction"]] == max(shares.values())


@pytest.mark.slow
def test_predictions_are_in_the_natural_order_of_files(swept, image_task):
    folder = image_task / "validation"
    wanted = sorted(str(path.relative_to(folder)) for path in folder.glob("*/*"))
    rows = [row for row in rows_of(swept.parent / "all.csv") if row["seed"] == "0"]
    assert [row["path"] for row in rows] == wanted
    assert all(row["path"].startswith(row["label"]) for row in rows)


@pytest.mark.parametrize("run", EACH_RUN, indirect=True)
def test_tensorboard_shows_confusion_and_classes(run):
    folder, classes, _ = run
    summary = summary_of(folder)
    events = EventAccumulator(str(folder / summary["model"] / "validation")).Reload()
    scalars = {"accuracy/accuracy", "f1/f1", "mcc/mcc", "loss/loss", "ece/ece"}
    others = {f"{name}/validation" for name in ("confusion", "classes", "wrong")}
    found = set(events.Tags()["tensors"])
    assert {tag for tag in found if not tag.startswith("_hparams_")} == scalars | others
    picture = events.Tensors("confusion/validation")[0].tensor_proto.string_val[2]
    assert tf.io.decode_png(picture).shape[0] > 200
    table = events.Tensors("classes/validation")[0].tensor_proto.string_val[0].decode()
    assert {line.split(" | ")[0].strip("| ") for line in table.splitlines()[2:]} == set(classes)
    *others, last = rows_of(folder / summary["model"] / "metrics.csv")
    assert not any(row["val_accuracy"] for row in others)
    assert [row["step"] for row in (*others, last)] == ["2", "4", "5"][: len(others) + 1]
    assert summary["steps"] == int(last["step"])
    measures, model = summary["splits"]["validation"], summary["trials"].index(summary["model"])
    for column, name in (("accuracy", "accuracy"), ("loss", "log_loss"), ("ece", "ece")):
        [value] = events.Tensors(f"{column}/{column}")
        assert float(tf.make_ndarray(value.tensor_proto)) == pytest.approx(
            measures[name]["values"][model]
        )
        assert float(last[f"val_{column}"]) == measures[name]["values"][model]


@pytest.mark.slow
def test_the_hparams_tab_compares_the_trials_of_a_sweep(swept):
    experiment, groups = hparams(swept)
    differing = {info.name for info in experiment.hparam_infos if info.differs}
    assert differing == {"purpose", "optimizer.learning_rate", "seed"}
    metrics = {info.name.tag for info in experiment.metric_infos}
    assert metrics == {"accuracy/accuracy", "f1/f1", "mcc/mcc", "loss/loss", "ece/ece"}
    for name, group in groups.items():
        result = content_of(swept / name / "result.json")
        settings = group.hparams
        assert settings["optimizer.learning_rate"].number_value == result["learning_rate"]
        assert settings["seed"].number_value == result["seed"]
        assert settings["purpose"].string_value == result["purpose"]
        found = {value.name.tag: value.value for value in group.metric_values}
        [measures] = result["splits"].values()
        assert found["accuracy/accuracy"] == pytest.approx(measures["accuracy"])
        assert found["loss/loss"] == pytest.approx(measures["log_loss"])
    assert len(groups) == len(RATES) + 2


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


# --- again -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_stopped_sweep_ends_the_same(swept, image_flags, tmp_path, monkeypatch):
    """Stopped within the second rate, killed between two seeds, and once after the last step."""
    from keras_vitbert.experiments.fine_tuning import search
    from keras_vitbert.runs import divergence

    places = [("sweep-rate-0.03-seed-0", 3), ("seed-rate", 5)]
    original = divergence.DivergenceGuard.on_train_batch_end
    current = []

    def hooked(self, batch, logs=None):
        if places and current[0].startswith(places[0][0]) and self.model.step == places[0][1]:
            places.pop(0)
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, batch, logs)

    run_trial = search.run_trial

    def noted(run, trial, *arguments):
        current[:] = [trial.name]
        return run_trial(run, trial, *arguments)

    flags = [*image_flags, "--sweep", "--seeds=2", f"--output_dir={tmp_path}"]
    with monkeypatch.context() as patched:
        patched.setattr(divergence.DivergenceGuard, "on_train_batch_end", hooked)
        patched.setattr(search, "run_trial", noted)
        assert finetune(*flags) == EXIT_STOPPED
        stopped = tmp_path / "trials" / "sweep-rate-0.03-seed-0"
        assert checkpoints.latest(str(stopped / "checkpoints"))[1] == 3
        assert (tmp_path / "trials" / "sweep-rate-0.003-seed-0" / "result.json").exists()
        assert not (stopped / "result.json").exists()
        finetune(*flags)  # in the last step of a run it is too late to stop
        assert not places
    assert finetune(*flags) == EXIT_DONE

    def without_clock(row):
        return {name: value for name, value in row.items() if name != "seconds"}

    ours, wanted = (
        [without_clock(row) for row in rows_of(folder / "results.csv")]
        for folder in (tmp_path, swept)
    )
    assert ours == wanted
    assert json.loads((stopped / "result.json").read_text())["resumed_from_step"] == 3
    mine, theirs = load(str(tmp_path)).network, load(str(swept)).network
    for one, other in zip(mine.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(one.value), np.asarray(other.value))


@pytest.mark.slow
def test_executions_of_two_steps_make_the_same(text_run, text_flags, tmp_path, signal_at):
    """Batches have the lengths of two buckets. Stopped after the first execution, it goes on."""
    flags = [*text_flags, "--config.steps_per_execution=2", f"--output_dir={tmp_path}"]
    signal_at("batch", "classifier", 2)
    assert finetune(*flags) == EXIT_STOPPED
    assert finetune(*flags) == EXIT_DONE
    [result] = results_of(tmp_path)
    assert result["resumed_from_step"] == 2
    assert_same_model(tmp_path, text_run)


def assert_same_model(folder, wanted):
    """The same predictions and, to the bit, the same weights."""
    ours, theirs = (
        [result["predictions_sha256"] for result in results_of(run)] for run in (folder, wanted)
    )
    assert ours == theirs
    model = summary_of(folder)["model"]
    assert model == summary_of(wanted)["model"]
    assert_same_values(checkpoint_values(folder / model), checkpoint_values(wanted / model))


def results_of(folder):
    paths = sorted(folder.glob("trials/*/result.json"))
    return [json.loads(path.read_text()) for path in paths]


def test_an_execution_must_divide_the_steps_of_the_data(text_flags, tmp_path, capsys):
    """30 texts in batches of 4 are 22 steps in three passes, 20 while a tenth is held out."""
    flags = [
        *text_flags,
        "--config.steps=0",
        "--config.epochs=3",
        f"--output_dir={tmp_path / 'run'}",
    ]
    flags += ["--config.steps_per_epoch=4", "--config.steps_per_execution=4", "--sweep"]
    assert finetune(*flags) == EXIT_BAD_INPUT
    assert "steps_per_execution" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def with_determinism(argv):
    """The command in a process of its own, as TensorFlow's switch is that of a process."""
    return finetune(*argv, "--deterministic")


@pytest.mark.thorough
def test_deterministic_operations_refuse_nothing(text_run, text_flags, tmp_path):
    """On CPU they are those that are used anyway; images are in `test_pretrain_replicas`."""
    flags = [*text_flags, f"--output_dir={tmp_path}"]
    status, errors = Forked(with_determinism, flags).end()
    assert status == EXIT_DONE, errors[-3000:]
    assert_same_model(tmp_path, text_run)
    # Without the flag it is the same run.
    assert finetune(*flags) == EXIT_DONE


@pytest.mark.parametrize("run", EACH_RUN, indirect=True)
def test_a_folder_refuses_other_settings(run, image_flags, text_flags, capsys):
    folder, classes, _ = run
    is_images = classes == CLASSES
    flags = [*(image_flags if is_images else text_flags), f"--output_dir={folder}"]
    assert finetune(*flags, "--config.batch=2") == 2
    assert "batch" in capsys.readouterr().err
    other = ["--checkpoint=rand", "--architecture=sample"]
    other.append("--config.image_size=14" if is_images else f"--vocabulary={folder}/vocabulary.txt")
    assert finetune(*flags, *other) == 2
    assert "checkpoint" in capsys.readouterr().err


# --- where it begins ---------------------------------------------------------------------------


def transfer_of(folder):
    return summary_of(folder)["transfer"]["encoder"], summary_of(folder)["transfer"]["embedding"]


SHORT = ("--config.steps=1", "--config.steps_per_epoch=1")


@pytest.mark.slow
def test_a_bert_on_images(finished, image_flags, tmp_path):
    run = [f"--checkpoint={finished('bert')}", f"--output_dir={tmp_path}"]
    assert finetune(*image_flags, *run, *SHORT) == EXIT_DONE
    assert transfer_of(tmp_path) == ("kept", "fresh")


@pytest.mark.slow
def test_a_vit_on_text(finished, text_flags, sources, tmp_path):
    run = [f"--checkpoint={finished('vit')}", f"--output_dir={tmp_path}"]
    assert finetune(*text_flags, *run, *SHORT) == 2  # it has no vocabulary
    words = f"--vocabulary={sources / 'vocab.txt'}"
    assert finetune(*text_flags, *run, *SHORT, words) == EXIT_DONE
    assert transfer_of(tmp_path) == ("kept", "fresh")


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
    assert transfer_of(tmp_path) == ("fresh", "fresh")
    summary = summary_of(tmp_path)
    assert 0 < summary["trained_parameters"] < summary["parameters"]
    trained = load(str(tmp_path))
    assert trained.classes == ["no", "yes"]
    rows = rows_of(tmp_path / summary["model"] / "metrics.csv")
    assert all(row["val_accuracy"] for row in rows)
    # The embedding is fresh, so it is trained although the encoder's weights are not.
    embedding = sum(math.prod(w.shape) for w in trained.network.embedding.weights)
    assert summary["trained_parameters"] > embedding


@pytest.mark.slow
def test_a_part_of_the_test_examples_is_reported(text_flags, tmp_path, capsys):
    part = [*text_flags, "--config.test_examples=5", f"--output_dir={tmp_path / 'run'}"]
    assert finetune(*part, f"--predictions={tmp_path / 'all.csv'}") == EXIT_DONE
    assert "validation: 5 of its 13 examples" in capsys.readouterr().err
    summary, predictions = summary_of(tmp_path / "run"), rows_of(tmp_path / "all.csv")
    right = sum(row["label"] == row["prediction"] for row in predictions)
    assert len(predictions) == summary["splits"]["validation"]["examples"] == 5
    assert summary["splits"]["validation"]["accuracy"]["median"] == pytest.approx(right / 5)
    assert finetune(*part) == EXIT_DONE  # it is finished
    assert finetune(*part, "--config.test_examples=6") == EXIT_BAD_INPUT
    assert "other validation" in capsys.readouterr().err


@pytest.mark.slow
def test_a_rate_far_too_high(text_flags, tmp_path, capsys):
    flags = ["--config.optimizer.name=sgd", "--config.optimizer.warmup=0"]
    flags += ["--config.optimizer.learning_rate=1e30", f"--output_dir={tmp_path / 'one'}"]
    assert finetune(*text_flags, *flags) == EXIT_DIVERGED
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("diverged: ") and "1e+30" in line
    # In a sweep it is a result.
    flags += ["--sweep", "--config.grid=(1e-3,1e30)", f"--output_dir={tmp_path / 'two'}"]
    assert finetune(*text_flags, *flags) == EXIT_DONE
    summary = summary_of(tmp_path / "two")
    assert summary["learning_rate"] == 1e-3 and summary["sweep"]["1e+30"] is None


# --- on several devices ------------------------------------------------------------------------


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
