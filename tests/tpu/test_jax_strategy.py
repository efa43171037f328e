"""JAX's devices on several hosts."""

import json
import os
import subprocess
import sys

import pytest

from tests.keras_vitbert.jax_process import ENVIRONMENT, ROOT, environments


@pytest.mark.slow
def test_hosts_place_the_same_weights():
    script = [sys.executable, "-m", "tests.tpu.placing_script"]
    hosts = [
        subprocess.Popen(
            script,
            cwd=ROOT,
            env={**os.environ, **ENVIRONMENT, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for environment in environments(2, 2)
    ]
    for host in hosts:
        printed, errors = host.communicate(timeout=300)
        assert host.returncode == 0, errors[-3000:]
        placed = json.loads(printed.splitlines()[-1])  # Gloo prints, too
        assert placed["right"]
        assert placed["shares"] == [64 * 96 // 4, 5, 1, 64 * 96 // 4]
        assert placed["message"].startswith("different differs between the hosts; give all of them")
