"""`python -m keras_vitbert.doctor`, with the environment that each line is about."""

import email.message
import importlib.metadata
import platform
import subprocess

import pytest

from keras_vitbert import doctor
from pipelines.command_line import run

REQUIRED = [
    "absl-py>=2.1,<3",
    "tensorflow>=2.19,<2.22",
    "tensorflow-text>=2.19; platform_system != 'Plan 9'",
    "winonly>=1; platform_system == 'Plan 9'",
    'gensim>=4; extra == "sample"',
]


@pytest.fixture
def machine(monkeypatch):
    """`machine(python, status, stdout, stderr, **versions)`: what is installed and importable."""

    def set_up(python=">=3.11", status=0, stdout="", stderr="", **versions):
        versions = {name.replace("_", "-"): found for name, found in versions.items()}
        metadata = email.message.Message()
        metadata["Requires-Python"], metadata["Provides-Extra"] = python, "sample"

        def version(name):
            if versions.get(name) is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return versions[name]

        monkeypatch.setattr(importlib.metadata, "requires", lambda name: REQUIRED)
        monkeypatch.setattr(importlib.metadata, "metadata", lambda name: metadata)
        monkeypatch.setattr(importlib.metadata, "version", version)
        done = subprocess.CompletedProcess(
            [], status, stdout or '[["/device:CPU:0", 1, ""]]', stderr
        )
        monkeypatch.setattr(subprocess, "run", lambda *args, **options: done)

    return set_up


ALL = {
    "absl_py": "2.2", "tensorflow": "2.21.0", "tensorflow_text": "2.21.1", "gensim": "4.1",
    "keras_hub": "0.32.0", "tensorboard": "2.21.0", "setuptools": "84.0",
}  # fmt: skip


def test_a_machine_on_which_training_can_run(machine, capsys):
    gpu = '[["/device:CPU:0", 1, ""], ["/device:GPU:0", 17179869184, "name: T4"]]'
    machine(**ALL, stdout=f"noise\n{gpu}\n")
    assert run(doctor.main, []) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("keras_vitbert ") and platform.python_version() in out[0]
    assert "  [sample]: gensim 4.1" in out and not any("winonly" in line for line in out)
    assert out[-3:] == ["device CPU:0", "device GPU:0, 16.0 GiB name: T4", "training can run"]
    assert not any("run: pip" in line for line in out)


@pytest.mark.parametrize(
    ("changes", "status", "stream", "line"),
    [
        (
            {"tensorflow": None},
            2,
            "err",
            "tensorflow",
        ),
        ({"python": ">=4"}, 2, "err", ">=4"),
        (
            {"status": 1, "stderr": "Traceback\nImportError: no libcuda\n"},
            2,
            "err",
            "no libcuda",
        ),
        ({"status": -4, "stderr": ""}, 2, "err", "SIGILL"),
        ({"absl_py": "1.0"}, 0, "out", '"absl-py<3,>=2.1"'),
        ({"gensim": None}, 0, "out", "no gensim"),
        ({"tensorflow_text": None}, 0, "out", "without tensorflow-text"),
        (
            {"tensorboard": "2.20.0"},
            0,
            "out",
            "cannot start beside setuptools 84",
        ),
    ],
)
def test_what_is_wrong_is_said_with_the_fix(machine, capsys, changes, status, stream, line):
    machine(**{**ALL, **changes})
    assert run(doctor.main, []) == status
    assert line in getattr(capsys.readouterr(), stream)


def test_an_import_that_never_ends(machine, monkeypatch, capsys):
    machine(**ALL)

    def hang(command, timeout, **options):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    assert run(doctor.main, []) == 2
    assert "pip uninstall tensorflow-tpu" in capsys.readouterr().err


@pytest.mark.slow
def test_this_machine(capsys):
    assert run(doctor.main, []) == 0
    out = capsys.readouterr().out
    assert out.endswith("training can run\n") and "\ndevice CPU:0\n" in out
