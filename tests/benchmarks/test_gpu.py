"""`python -m benchmarks.gpu`: its table, and a row that this process measures."""

import argparse
import subprocess
import sys

import pytest

from benchmarks import gpu
from benchmarks.speed_table import Outcome
from keras_vitbert.model.flops import TRAINING


def test_a_table(monkeypatch, capsys):
    value = {"first": 9.0, "step": 0.5, "peak": 3e9, "device": "NVIDIA A100-SXM4-40GB"}
    outcomes = {
        "jax": Outcome(value | {"flops": 0.25 * 312e12 * 0.5}),
        "eager": Outcome(left_out="torch is not installed"),
        "compiled": Outcome(value | {"step": 0.25}),
        "sample": Outcome(failed="MemoryError"),
    }
    monkeypatch.setattr(gpu, "outcome", lambda command, _: outcomes[command[3].split("=")[1]])
    monkeypatch.setattr(sys, "argv", ["gpu", f"--only={','.join(outcomes)}"])
    assert gpu.main() == 1
    rows = capsys.readouterr().out.splitlines()[-len(outcomes) :]
    found = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    device = value["device"]
    assert found == [
        ["JAX", device, "9.0 s", "500 ms", "3.00 GB", "25%", ""],
        ["PyTorch, eager", "", "", "", "", "", "torch is not installed"],
        # What it takes is not asked: the products of the model count.
        ["PyTorch, compiled", device, "9.0 s", "250 ms", "3.00 GB", "50%", ""],
        ["the sample run", "", "", "", "", "", "failed: MemoryError"],
    ]


def test_what_is_missing(monkeypatch):
    error = "Traceback\nModuleNotFoundError: No module named 'torch'\n"
    ended = subprocess.CompletedProcess("", 1, "", error)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)
    assert gpu.outcome([], {}).left_out == "torch is not installed"


@pytest.mark.slow
def test_a_row():
    values = argparse.Namespace(dtype="float32", quick=True, **{**gpu.QUICK, "steps": 1})
    found = gpu.measured("tensorflow", values)
    assert found["first"] > found["step"] > 0 and found["device"] == "CPU"
    assert found["flops"] > TRAINING * 1e9
