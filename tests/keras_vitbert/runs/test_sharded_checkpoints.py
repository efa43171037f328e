"""Checkpoints of which each process writes its slices, see `sharded_script`."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from keras_vitbert.runs import checkpoints
from tests.keras_vitbert.jax_process import ENVIRONMENT, ROOT, environments
from tests.keras_vitbert.runs import sharded_script


def start(command, folder, environment):
    return subprocess.Popen(
        [sys.executable, "-m", sharded_script.__name__, command, str(folder)],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(process, status):
    printed, errors = process.communicate(timeout=300)
    assert process.returncode == status, errors[-3000:]
    return json.loads(printed.splitlines()[-1])  # Gloo prints, too


@pytest.mark.slow
def test_two_processes_write_and_others_read(tmp_path):
    writing = [start("write", tmp_path, each) for each in environments(2, 4)]
    for index, process in enumerate(writing):
        found = answer(process, -signal.SIGKILL)
        assert found["shares"] == [512 * 32 // 8] * 3 + [5]
        assert found["after a missing shard"] and found["last"] == "step-00000003\n"
        # One host's disk was full: both told it, and neither waited for the other.
        assert found["full"].startswith("OSError" if index else "ValueError")
    assert (tmp_path / "step-00000012" / "parts").exists()
    reading = [start("read", tmp_path, environments(1, devices)[0]) for devices in (2, 8)]
    for process in reading:
        assert answer(process, 0) == {"after a kill": 3, "same": True}
    # TensorFlow's own reader, which knows nothing of our processes.
    path = tmp_path / "step-00000003"
    assert sorted(file.name for file in path.iterdir()) == [
        *(f"state.data-0000{n}-of-00002" for n in range(2)),
        "state.index",
        "step.json",
    ]
    sizes = [file.stat().st_size for file in sorted(path.glob("state.data*"))]
    assert sizes[1] == 512 * 32 * (4 + 4 + 1) // 2 and sizes[0] < sizes[1] + 1000
    reader = checkpoints._open(str(path))
    for name, value in sharded_script.values_at(3).items():
        stored = reader.get_tensor(checkpoints._key("network", name))
        np.testing.assert_array_equal(stored, value, err_msg=name)
