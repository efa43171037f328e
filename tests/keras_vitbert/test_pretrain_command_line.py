"""`python -m keras_vitbert.pretrain`: a signal, and what a bad call costs."""

import subprocess
import sys

import pytest

from keras_vitbert.pretrain import main
from pipelines import command_line
from tests.keras_vitbert.configs.command_lines import CONFIG_FILE


def test_a_signal_is_no_failure_of_the_file(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n" + CONFIG_FILE)
    assert command_line.run(main, [f"--config={path}"]) == command_line.EXIT_STOPPED
    assert capsys.readouterr().err.startswith("stopped: by SIGTERM")


LIGHT = """
import importlib, sys
from pipelines import command_line
try:
    main = importlib.import_module(f"keras_vitbert.{sys.argv[1]}").main
    status = command_line.run(main, sys.argv[2:])
except SystemExit as error:
    status = error.code
heavy = {"tensorflow", "keras", "keras_hub", "jax", "numpy"} & set(sys.modules)
print("status", status, "heavy", sorted(heavy))
"""


@pytest.mark.parametrize(
    ("argv", "status"),
    [(["pretrain", "--help"], 0), (["finetune", "--task=x"], 2)],
)
def test_help_and_bad_flags_do_not_load_tensorflow(argv, status):
    command = [sys.executable, "-c", LIGHT, *argv]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1] == f"status {status} heavy []"
