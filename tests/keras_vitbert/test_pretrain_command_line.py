"""`python -m keras_vitbert.pretrain`: what help and a bad call cost."""

import subprocess
import sys

import pytest

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
