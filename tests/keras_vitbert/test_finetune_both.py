"""Whole runs of `finetune` on images and texts at once: what they leave, resume and answer."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import keras_vitbert
from keras_vitbert import finetune as finetune_command
from keras_vitbert.runs import machine
from keras_vitbert.trained.exporting import export
from keras_vitbert.trained.portable.folder import write_folder
from keras_vitbert.trained.sharing import model_card
from keras_vitbert.trained.trained_model import origin_of
from pipelines import command_line
from pipelines.command_line import EXIT_BAD_INPUT, EXIT_DONE, EXIT_STOPPED
from tests.forked import Forked
from tests.keras_vitbert.jax_process import call, environments
from tests.keras_vitbert.killed import signal_at
from tests.keras_vitbert.tiny_runs import files_below, summary_of
from tests.keras_vitbert.tiny_tasks import CLASSES, IMAGES, TEXTS, finetune, rows_of
from tests.keras_vitbert.training.replicas_script import make_strategy, set_devices

FLAGS = (
    "--config.image.image_size=12",
    "--config.image.images.crop_area=(0.5,1.0)",
    "--config.image.batch=8",
    "--config.text.batch=4",
    "--config.text.bucket_boundaries=()",
    "--config.merge.name=mask",
    "--config.merge.mask_update_interval=2",
    "--config.merge.mask_ratio_per_update=0.5",
    "--config.steps=5",
    "--config.steps_per_epoch=5",
    "--config.evaluation_batch=4",
    "--config.optimizer.learning_rate=1e-2",
    "--config.optimizer.epsilon=1e-3",  # rounding must not turn a step round
)
COUNTS = {"image": IMAGES["validation"], "text": TEXTS["dev"]}


@pytest.fixture(scope="module")
def flags(finished, image_task, text_task):
    """What fine-tunes the run of `joint` on both tasks."""
    own = [f"--images={image_task}", f"--texts={text_task}"]
    return [f"--checkpoint={finished('joint')}", *own, *FLAGS]


@pytest.fixture(scope="module")
def both(made_once, flags):
    """The folder of a run, and what it predicts beside it; leave them."""

    def make(folder):
        paths = [f"--output_dir={folder / 'run'}", f"--predictions={folder / 'all.csv'}"]
        assert finetune(*flags, *paths) == EXIT_DONE

    return made_once("both", make) / "run"


def weights_of(folder):
    return [np.asarray(weight.value) for weight in keras_vitbert.load(str(folder)).network.weights]


def test_each_task_has_its_results(both):
    summary = summary_of(both)
    metrics = rows_of(both / summary["model"] / "metrics.csv")[-1]
    events = EventAccumulator(str(both / summary["model"] / "validation")).Reload()
    shares = []
    for section, count in COUNTS.items():
        task = summary["tasks"][section]
        measures = task["splits"]["validation"]
        rows = rows_of(both.parent / f"all-{section}.csv")
        accuracy = np.mean([row["label"] == row["prediction"] for row in rows])
        assert len(rows) == measures["examples"] == count
        assert task["value"] == measures["accuracy"]["median"] == pytest.approx(accuracy)
        assert float(metrics[f"val_{section}_accuracy"]) == task["value"]
        assert f"confusion/{section}.validation" in events.Tags()["tensors"]
        assert "linear" in task
        least = measures["majority_accuracy"]
        shares.append((accuracy - least) / (1 - least))
    assert summary["value"] == pytest.approx(np.mean(shares))
    assert float(metrics["mask_sparsity"]) == 0.5  # two updates cleared all they may
    assert 0 < abs(float(metrics["gradient_cosine"])) < 1
    events = EventAccumulator(str(both / summary["model"] / "train")).Reload()
    assert "gradient/gradient_cosine" in events.Tags()["tensors"]


def test_one_model_answers_both(both, tmp_path, capsys):
    """As its predictions say, by `load`, by the command, exported and evaluated again."""
    trained = keras_vitbert.load(str(both))
    assert trained.classes_of("image") == CLASSES
    assert trained.classes_of("text") == ["no", "yes"]
    folder, served = export(trained, str(tmp_path / "served"), "both")
    assert {"classify_image", "classify_text"} <= served.functions.keys()
    size = os.path.getsize(f"{folder}/variables/variables.data-00000-of-00001")
    assert size < 4 * trained.network.count_params() + 20_000  # the encoder is there once
    functions = tf.saved_model.load(folder).signatures
    summary = summary_of(both)
    rows = {s: rows_of(both / summary["model"] / f"{s}_predictions.csv") for s in COUNTS}
    config = json.loads((both / "config.json").read_text())
    row = rows["text"][0]
    pair = [[row["text"], row["text_pair"]]]
    answer = functions["classify_text"](text=tf.constant(pair))["probabilities"].numpy()[0]
    wanted = [float(row[f"probability_{name}"]) for name in ("no", "yes")]
    np.testing.assert_allclose(answer, wanted, atol=1e-5)
    assert config["inputs"].keys() >= {"classes", "text_classes", "image.train", "text.train"}

    card = model_card(trained, "run", origin_of(trained))
    assert "--image=FILE" in card and "--text=TEXT" in card and "green" in card and "yes" in card


@pytest.mark.slow
def test_one_folder_answers_both_without_tensorflow(both, image_task, tmp_path):
    write_folder(keras_vitbert.load(str(both)), str(tmp_path / "it"), "onnx")
    model = both / summary_of(both)["model"]

    def assert_answers(row, names, *words):
        line = [sys.executable, str(tmp_path / "it" / "predict.py"), *words]
        found = subprocess.run(line, check=True, capture_output=True, text=True).stdout.split()
        answer = dict(zip(found[::2], map(float, found[1::2]), strict=True))
        wanted = {name: float(row[f"probability_{name}"]) for name in names}
        assert answer == pytest.approx(wanted, abs=1e-3)

    for row in rows_of(model / "image_predictions.csv")[:2]:
        assert_answers(row, CLASSES, f"{image_task}/{row['split']}/{row['path']}")
    # The shortest: `predict.py` refuses texts that training cut.
    rows = rows_of(model / "text_predictions.csv")
    for row in sorted(rows, key=lambda row: len(row["text"] + row["text_pair"]))[:2]:
        words = "--text", row["text"], "--text_pair", row["text_pair"]
        assert_answers(row, ("no", "yes"), *words)


@pytest.mark.slow
def test_a_saved_model_of_both_is_evaluated_again(both, image_task, text_task, tmp_path, capsys):
    flags = ["--evaluate_only", f"--checkpoint={both}", f"--predictions={tmp_path / 'p.csv'}"]
    assert finetune(*flags, f"--images={image_task}", f"--texts={text_task}") == EXIT_DONE
    summary = summary_of(both)
    for section in COUNTS:
        kept = rows_of(both / summary["model"] / f"{section}_predictions.csv")
        again = rows_of(tmp_path / f"p-{section}.csv")
        assert [row["prediction"] for row in again] == [row["prediction"] for row in kept]
    assert finetune(*flags[:2], f"--images={image_task}") == EXIT_BAD_INPUT
    assert str(both) in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_a_stopped_run_ends_the_same(both, flags, tmp_path):
    """Between two updates of the masks."""
    flags = [*flags, f"--output_dir={tmp_path}"]
    signal_at(3, signal.SIGTERM)
    assert finetune(*flags) == EXIT_STOPPED
    assert finetune(*flags) == EXIT_DONE
    for ours, wanted in zip(weights_of(tmp_path), weights_of(both), strict=True):
        np.testing.assert_array_equal(ours, wanted)
    ours, wanted = (summary_of(folder)["tasks"] for folder in (tmp_path, both))
    assert ours == wanted


@pytest.mark.slow
def test_a_run_goes_on_on_the_other_backend(both, flags, tmp_path):
    """From its first step on: the backends draw other weights for the new heads."""
    flags = [*flags, f"--output_dir={tmp_path / 'run'}"]
    signal_at(1, signal.SIGTERM)
    assert finetune(*flags) == EXIT_STOPPED
    status, errors = call(tmp_path / "programs", "finetune", "--backend=jax", *flags)
    assert status == EXIT_DONE, errors[-2000:]
    for ours, wanted in zip(weights_of(tmp_path / "run"), weights_of(both), strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        (lambda images, texts: [f"--images={texts}", f"--texts={texts}"], "holds no images"),
        (lambda images, texts: [f"--images={images}", f"--texts={images}"], "holds no text"),
        (lambda images, texts: [f"--images={images}", f"--data_dir={texts}"], "--data_dir"),
        (lambda images, texts: ["--task=cifar10,pets"], "cifar10,pets"),
    ],
)
def test_what_does_not_fit_is_refused(
    finished, image_task, text_task, tmp_path, capsys, change, culprit
):
    flags = change(image_task, text_task)
    flags += [f"--checkpoint={finished('joint')}", f"--output_dir={tmp_path / 'run'}"]
    assert finetune(*flags) == EXIT_BAD_INPUT
    assert culprit in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_model_of_images_alone_needs_a_vocabulary(
    finished, image_task, text_task, tmp_path, capsys
):
    flags = [f"--checkpoint={finished('vit')}", f"--images={image_task}", f"--texts={text_task}"]
    assert finetune(*flags, f"--output_dir={tmp_path / 'run'}") == EXIT_BAD_INPUT
    assert "vocabulary" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_folder_goes_on_only_with_both(both, flags, image_task, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(both, folder)
    before = files_below(folder)
    own = [flags[0], f"--images={image_task}", "--config.image_size=12", "--config.steps=5"]
    assert finetune(*own, f"--output_dir={folder}") == EXIT_BAD_INPUT
    assert str(folder) in capsys.readouterr().err.splitlines()[-1]
    assert files_below(folder) == before


def finetune_on(replicas, argv):
    """The command on a number of logical CPUs, in a process of its own."""
    set_devices(replicas)
    machine.get_strategy = lambda *flags: make_strategy(replicas)
    return command_line.run(finetune_command.main, argv)


@pytest.mark.slow
def test_two_replicas_train_what_one_does(both, flags, tmp_path):
    """Dropout included; the losses of both are means over all replicas."""
    status, errors = Forked(finetune_on, 2, [*flags, f"--output_dir={tmp_path}"]).end()
    assert status == EXIT_DONE, errors[-2000:]
    for ours, wanted in zip(weights_of(tmp_path), weights_of(both), strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-4)


@pytest.mark.slow
def test_two_hosts_train_what_one_does(both, flags, tmp_path):
    """Each with one device; of texts a host holds every other one, as of images."""
    argv = [*flags, f"--output_dir={tmp_path}"]
    hosts = [Forked(finetune_alone, argv, **environment) for environment in environments(2, 1)]
    for host in hosts:
        status, errors = host.end()
        assert status == EXIT_DONE, errors[-2000:]
    for ours, wanted in zip(weights_of(tmp_path), weights_of(both), strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-4)


def finetune_alone(argv):
    """The command in a process of its own."""
    return command_line.run(finetune_command.main, argv)
