"""The command `probe` on tiny runs and tasks."""

import json
import pathlib
import shutil

import pytest

from keras_vitbert import probe
from pipelines.command_line import EXIT_BAD_INPUT, EXIT_DONE, run
from tests.keras_vitbert.tiny_runs import files_below
from tests.keras_vitbert.trained.stored_models import FIXTURES

SAVED = pathlib.Path(__file__).parent / "trained" / "saved"


def call(*argv):
    return run(probe.main, list(map(str, argv)))


@pytest.mark.slow
def test_a_run_on_images(finished, image_task, tmp_path, capsys):
    run_folder = finished("joint")
    flags = (f"--checkpoint={run_folder}", f"--data_dir={image_task}", "--shots=2,0")
    assert call(*flags, f"--output_dir={tmp_path / 'out'}") == EXIT_DONE
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["checkpoint"] == str(run_folder) and summary["training_examples"] == 26
    [split] = summary["splits"]
    assert [len(summary["splits"][split][shots]["ridge"]) for shots in ("2", "0")] == [3, 1]
    # The class is the brightest channel: frozen features of a few steps tell it.
    [accuracy] = summary["splits"][split]["0"]["ridge"]
    assert accuracy > 0.6 and f"| {accuracy:.4f} |" in capsys.readouterr().out
    assert call(*flags) == EXIT_DONE
    assert f"| {accuracy:.4f} |" in capsys.readouterr().out  # the same again


def test_random_weights_depend_on_the_seed(text_task, sources, capsys):
    """Of a text task; the vocabulary is given, as random weights have none."""
    flags = (
        "--checkpoint=rand",
        f"--architecture={sources}/config.py",
        f"--vocabulary={sources}/vocab.txt",
        f"--data_dir={text_task}",
        "--shots=0",
    )
    tables = []
    for seed in (0, 0, 1):
        assert call(*flags, f"--config.seed={seed}") == EXIT_DONE
        tables.append(capsys.readouterr().out.splitlines()[-1])
    assert tables[0] == tables[1] and tables[0].startswith("| validation | all | ")


def test_a_bert_on_images(image_task, capsys):
    """It has no size of images."""
    flags = (f"--checkpoint={FIXTURES / 'bert'}", f"--data_dir={image_task}", "--shots=1")
    assert call(*flags, "--draws=1") == EXIT_DONE
    assert capsys.readouterr().out.splitlines()[-1].startswith("| validation | 1 | ")


def test_the_summary_of_a_run_is_not_overwritten(text_task, tmp_path, capsys):
    shutil.copytree(SAVED / "fine_tuned_texts", tmp_path / "run")
    before = files_below(tmp_path / "run")
    flags = (f"--checkpoint={tmp_path / 'run'}", f"--data_dir={text_task}", "--shots=0")
    assert call(*flags, f"--output_dir={tmp_path / 'run'}") == EXIT_BAD_INPUT
    assert str(tmp_path / "run") in capsys.readouterr().err.splitlines()[-1]
    assert files_below(tmp_path / "run") == before


def test_an_image_that_does_not_decode(image_task, tmp_path, capsys):
    shutil.copytree(image_task, tmp_path / "images")
    path = tmp_path / "images" / "validation" / "red" / "002.jpg"
    path.write_bytes(path.read_bytes()[:200])
    flags = (f"--checkpoint={SAVED / 'run'}", f"--data_dir={tmp_path / 'images'}")
    assert call(*flags) == EXIT_BAD_INPUT
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and str(path) in last


@pytest.mark.parametrize(
    ("flags", "culprit"),
    [
        ([], "task"),
        (["--task=cifar10"], "checkpoint"),
        (["--checkpoint=rand", "--task=cifar10", "--shots=5,x"], "shots"),
        (["--checkpoint=rand", "--task=cifar10", "--draws=0"], "draws"),
        (["--checkpoint=absent", "--task=sst2"], "absent"),
    ],
)
def test_bad_input(flags, culprit, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call(*flags) == EXIT_BAD_INPUT
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and culprit in last
