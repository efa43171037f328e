"""Commands on Keras' JAX backend, in processes of their own; one of them may kill itself.

python -m tests.keras_vitbert.jax_process STEP pretrain [FLAG ...]
"""

import importlib
import json
import os
import pathlib
import subprocess
import sys

from pipelines import command_line
from tests.keras_vitbert.extras.demo_page.ports import free_port
from tests.keras_vitbert.killed import signal_at

ROOT = pathlib.Path(__file__).parents[2]
# XLA optimises tiny programs for longer than they run.
UNOPTIMIZED = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
ENVIRONMENT = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", **UNOPTIMIZED}


def call(cache, command, *flags, killed_in=0, **environment):
    """Runs a command.

    Args:
        cache: folder of compiled programs, which later calls need not compile again.
        command: str, such as `pretrain`.
        *flags: its flags.
        killed_in: int, the step in which it is killed; 0 for none.
        **environment: further variables.

    Returns:
        (int, exit status; str, stderr).
    """
    cached = {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(killed_in), command, *map(str, flags)],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT, **cached, **environment},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr


def environments(processes, devices):
    """The environment of each process that takes part: list of dict.

    Args:
        processes: int.
        devices: int, how many each of them has.
    """
    found = [{"JAX_NUM_CPU_DEVICES": str(devices)} for _ in range(processes)]
    if processes > 1:
        cluster = {"worker": [f"localhost:{free_port()}" for _ in range(processes)]}
        for index, environment in enumerate(found):
            task = {"type": "worker", "index": index}
            environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
    return found


if __name__ == "__main__":
    killed_step, name, *argv = sys.argv[1:]
    if int(killed_step):
        signal_at(int(killed_step))
    main = importlib.import_module(f"keras_vitbert.{name}").main
    sys.exit(command_line.run(main, argv))
