"""The command `probe` on tiny runs and tasks."""

import pathlib

from keras_vitbert import probe
from pipelines.command_line import EXIT_DONE, run

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
