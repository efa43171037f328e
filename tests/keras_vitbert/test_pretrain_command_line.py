"""`python -m keras_vitbert.pretrain`: help, statuses, and what a bad call costs."""

import os
import pathlib
import subprocess
import sys

import pytest

from keras_vitbert.configs import sample
from keras_vitbert.configs.sections import flatten
from keras_vitbert.pretrain import main
from pipelines import command_line
from pipelines.command_line import EXIT_BAD_INPUT
from tests.keras_vitbert.configs.command_lines import CONFIG_FILE
from tests.keras_vitbert.tiny_runs import arguments
from tests.said import without_status


def test_a_signal_is_no_failure_of_the_file(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n" + CONFIG_FILE)
    assert command_line.run(main, [f"--config={path}"]) == command_line.EXIT_STOPPED
    assert capsys.readouterr().err.startswith("stopped: by SIGTERM")


def test_help_lists_flags_and_keys(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--variant", "--output_dir", "--image_teacher", "--text_teacher", "--config:"):
        assert f"  {flag}" in text
    for key, value in flatten(sample.get_config()).items():
        assert f"{key}={value}" in " ".join(text.split())


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
    [(["pretrain", "--help"], 0), (["pretrain", "--variant=x"], 2), (["finetune", "--task=x"], 2)],
)
def test_help_and_bad_flags_do_not_load_tensorflow(argv, status):
    command = [sys.executable, "-c", LIGHT, *argv]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1] == f"status {status} heavy []"


def test_the_command_itself_exits_with_its_status():
    command = [sys.executable, "-m", "keras_vitbert.pretrain", "--variant=x", "--debug"]
    for argv, lines in ((command[:-1], 1), (command, 3)):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
        assert done.returncode == 2 and done.stdout == ""
        *others, last = done.stderr.splitlines()
        assert last.startswith("error: ") and "variant" in last
        assert (len(others) >= 2 and "Traceback" in others[0]) if lines > 1 else not others


@pytest.mark.slow
def test_one_line_on_stderr(sources, tmp_path):
    """TensorFlow's own notes are kept back."""
    flags = ["--variant=vit", "--config.data.images.train=nothing-*", f"--output_dir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "keras_vitbert.pretrain", *arguments(sources, *flags)],
        cwd=pathlib.Path(__file__).parents[2],
        env={k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"},
        capture_output=True,
        text=True,
    )
    [error] = without_status(done.stderr)
    assert error.startswith("error: ") and "nothing-*" in error
    assert done.returncode == EXIT_BAD_INPUT and done.stdout == ""
    assert not os.listdir(tmp_path)
