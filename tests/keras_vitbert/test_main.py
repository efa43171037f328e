"""`python -m keras_vitbert`: the list of commands."""

import importlib.util
import subprocess
import sys

import pytest

import keras_vitbert
from keras_vitbert import __main__ as listing
from pipelines.command_line import run


def test_every_command_is_listed_with_a_line():
    found = listing.commands()
    assert {"keras_vitbert.pretrain", "keras_vitbert.aot", "pipelines.vocabulary"} < set(found)
    assert "keras_vitbert.__main__" not in found
    assert not {"pipelines.files", "pipelines.command_line", "tpu.strategy"} & set(found)
    for name, line in found.items():
        assert importlib.util.find_spec(name) and line[0].isupper() and "\n" not in line


def test_it_prints_them_without_tensorflow(capsys):
    script = "import runpy, sys; sys.argv[1:] = []\n"
    script += "try: runpy.run_module('keras_vitbert', run_name='__main__')\n"
    script += "finally: assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"keras_vitbert {keras_vitbert.__version__}: ")
    assert run(listing.main, ["--help"]) == 0
    assert capsys.readouterr().out == done.stdout


@pytest.mark.parametrize("word", ["predicts", "--version"])
def test_arguments_are_refused(word, capsys):
    assert run(listing.main, [word]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert repr(word) in line
