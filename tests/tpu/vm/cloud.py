"""A fake `gcloud` that records its calls, and acts on folders of this machine.

It keeps the state of one TPU; the TPU's hosts are folders, in which the commands for ssh are run.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

from tests.tpu.servers import ROOT

VM = ROOT / "tpu" / "vm"
POD = ("--name=pod", "--zone=europe-west4-a")
TRAIN = ("--", "-m", "keras_vitbert.pretrain", "--config=paper", "--a=it's $HOME", "", 'a "b"\n*')

GCLOUD = f"""#!{sys.executable} -IS
import json, os, pathlib, shutil, subprocess, sys

folder = pathlib.Path(__file__).parent
with open(folder / "calls", "a") as calls:
    print(json.dumps(sys.argv[1:]), file=calls)
action, rest = sys.argv[4], sys.argv[5:]
flags = dict(word[2:].split("=", 1) for word in rest if word.startswith("--") and "=" in word)
state = folder / "state"
if action == "describe":
    if not state.exists():
        sys.exit("ERROR: NOT_FOUND")
    first, *others = state.read_text().splitlines()
    state.write_text("\\n".join(others or [first]))
    print(first)
if action == "create":
    state.write_text(f"READY\\t{{flags['accelerator-type']}}")
if action in ("ssh", "scp") and (folder / "hosts").exists():
    homes = sorted((folder / "hosts").iterdir())
    if flags["worker"] != "all":
        homes = [homes[int(flags["worker"])]]
    if action == "scp":
        for home in homes:
            shutil.copy(rest[-2], home / rest[-1].partition(":")[2])
        sys.exit()
    shell = ["bash", "-c", flags["command"]]
    running = [
        subprocess.Popen(shell, cwd=home, env={{**os.environ, "HOME": str(home)}}) for home in homes
    ]
    sys.exit(max(process.wait() for process in running))
"""

# Instead of Python on a VM: the server, and a program that says what it was called with.
VM_PYTHON = f"""#!{sys.executable} -IS
import json, os, signal, sys
if "-c" in sys.argv:
    sys.exit()
server = "tpu.worker" in sys.argv
signal.signal(signal.SIGTERM, lambda *_: os._exit(0 if server else 75))
told = [os.environ.get("TPU_LOAD_LIBRARY"), *sys.argv[1:]]
if "venv-jax" in sys.argv[0]:
    told[0] = "JAX"
print("tpu.worker: listening" if server else json.dumps(told), flush=True)
while True:
    signal.pause()
"""


SYSTEM_PYTHON = """#!/bin/sh
echo "$@" >>"$HOME/installed"
if [ "$3" = venv ]; then
  for folder; do :; done  # the last argument
  mkdir -p $folder/bin; cp "$0" $folder/bin/python
fi
"""


def copy_checkout(parent):
    """A copy of what the scripts need of the checkout, in a new folder with a difficult name."""
    folder = parent / "it's a checkout"
    ignore = shutil.ignore_patterns("__pycache__", "ahead_of_time", "weights")
    for name in ("keras_vitbert", "pipelines", "tpu"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


class Cloud:
    """The fake `gcloud`, and the scripts that call it."""

    def __init__(self, folder, checkout):
        self.folder, self.checkout = folder, checkout
        folder.mkdir()
        self.calls_file = folder / "calls"
        self.path = f"{folder}:{os.environ['PATH']}"
        executable(folder / "gcloud", GCLOUD)

    def run(self, script, *arguments, status=0, **options):
        """Runs a script of tpu/vm; returns what it did and the calls of gcloud."""
        return self.run_words(
            [self.checkout / "tpu" / "vm" / f"{script}.sh", *arguments], status, **options
        )

    def run_words(self, words, status=0, **options):
        self.calls_file.unlink(missing_ok=True)
        options = {"stdin": subprocess.DEVNULL} | options
        result = subprocess.run(
            words,
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": self.path},
            cwd=self.folder,
            **options,
        )
        assert result.returncode == status, result
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        return result, [json.loads(line) for line in lines]

    def set_state(self, *states):
        (self.folder / "state").write_text("\n".join(states))

    def add_hosts(self, count):
        """Hosts that are set up, but for their Python."""
        homes = [self.folder / "hosts" / str(number) for number in range(count)]
        for home in homes:
            shutil.copytree(VM / "on_vm", home / "vitbert" / "code" / "tpu" / "vm" / "on_vm")
            for venv in ("venv", "venv-jax"):
                (home / "vitbert" / venv / "bin").mkdir(parents=True)
                executable(home / "vitbert" / venv / "bin" / "python", VM_PYTHON)
        return homes


def executable(path, text):
    path.write_text(text)
    path.chmod(0o755)


def pid(home, name):
    return int((home / f"{name}.pid").read_text())


def alive(process):
    try:
        status = pathlib.Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def wait_for(path, text):
    """The content of a file once it holds the text."""
    for _ in range(300):
        if path.exists() and text in path.read_text():
            return path.read_text()
        time.sleep(0.1)
    raise AssertionError(f"no {text!r} in {path}: {path.exists() and path.read_text()}")
