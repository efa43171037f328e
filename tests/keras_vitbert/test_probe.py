"""The command `probe` on tiny runs and tasks."""

import pathlib
import shutil

from keras_vitbert import probe
from pipelines.command_line import EXIT_BAD_INPUT, EXIT_DONE, run
from tests.keras_vitbert.tiny_runs import files_below

SAVED = pathlib.Path(__file__).parent / "trained" / "saved"


def call(*argv):
    return run(probe.main, list(map(str, argv)))


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


def test_the_summary_of_a_run_is_not_overwritten(text_task, tmp_path, capsys):
    shutil.copytree(SAVED / "fine_tuned_texts", tmp_path / "run")
    before = files_below(tmp_path / "run")
    flags = (f"--checkpoint={tmp_path / 'run'}", f"--data_dir={text_task}", "--shots=0")
    assert call(*flags, f"--output_dir={tmp_path / 'run'}") == EXIT_BAD_INPUT
    assert str(tmp_path / "run") in capsys.readouterr().err.splitlines()[-1]
    assert files_below(tmp_path / "run") == before
