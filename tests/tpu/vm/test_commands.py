"""The scripts of tpu/vm with a fake `gcloud`, see `cloud`."""

import pathlib
import re
import shlex
import shutil

import pytest

from tests.tpu.servers import ROOT
from tests.tpu.vm.cloud import POD, TRAIN, executable

SCRIPTS = ("create", "set_up", "run", "logs", "delete")

COMMANDS = {
    "create": ("create", *POD, "--tpu=v3-128"),
    "create, spot": ("create", *POD, "--tpu=v5litepod-16", "--spot", "--project=my project"),
    "set_up": ("set_up", *POD, "--project=p"),
    "set_up, JAX": ("set_up", *POD, "--backend=jax"),
    "run, one host": ("run", *POD, "--tpu=v3-8", *TRAIN),
    "run, hosts": ("run", "--name", "it's", "--zone", "a b", "--project=p", "--tpu=v3-128", *TRAIN),
    "run, JAX": ("run", *POD, "--tpu=v5litepod-16", *TRAIN, "--backend=jax"),
    "stop": ("run", *POD, "--stop"),
    "logs": ("logs", *POD),
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


def test_runtime_versions_fit_the_generation(cloud):
    for tpu, version in (("v4-8", "tpu-ubuntu2204-base"), ("v6e-8", "v2-alpha-tpuv6e")):
        result, _ = cloud.run("create", *POD, f"--tpu={tpu}", "--dry_run")
        assert f"--accelerator-type={tpu} --version={version}\n" in result.stdout
    result, _ = cloud.run("create", *POD, "--tpu=v4-8", "--version=mine", "--dry_run")
    assert "--version=mine\n" in result.stdout


BAD_INPUT = {
    "unknown flag": ("create", *POD, "--typ=v3-8", "--typ"),
    "stray argument": ("create", "pod", "'pod'"),
    "no value": ("delete", "--zone=z", "--name", "--name"),
    "no name": ("create", "--zone=z", "--tpu=v3-8", "--name"),
    "unknown type": ("create", *POD, "--tpu=v3-100", "'v3-100'"),
    "no program": ("run", *POD, "--tpu=v3-8", "no program"),
    "program to stop": ("run", *POD, "--stop", "--", "x", "--stop"),
    "not asked": ("delete", *POD, "not deleted: pod"),
}


@pytest.mark.parametrize("words", BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_flags_are_one_line(cloud, words):
    *arguments, culprit = words
    result, calls = cloud.run(*arguments, status=2)
    assert result.stdout == "" and calls == []
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ") and culprit in line


def test_without_gcloud_there_is_help_and_one_line(cloud, tmp_path):
    bare = tmp_path / "bin"
    bare.mkdir()
    for tool in ("bash", "dirname", "sed", "python3"):
        (bare / tool).symlink_to(shutil.which(tool))
    result, _ = cloud.run("logs", *POD, status=2, path=str(bare))
    assert result.stderr.startswith("error: gcloud is not installed: ")
    assert result.stderr.count("\n") == 1
    for script in SCRIPTS:
        result, _ = cloud.run(script, "--help", path=str(bare))
        assert f"tpu/vm/{script}.sh --name=NAME --zone=ZONE" in result.stdout


def test_errors_of_gcloud_come_out(cloud):
    executable(cloud.folder / "gcloud", "#!/bin/sh\necho no quota >&2; exit 7\n")
    for name in ("create", "set_up", "run, hosts", "stop", "logs", "delete"):
        result, _ = cloud.run(*COMMANDS[name], status=7)
        assert "no quota" in result.stderr


def test_delete_asks_first(cloud):
    for answer, status in (("y\n", 0), ("n\n", 2), ("\n", 2)):
        _, calls = cloud.run("delete", *POD, status=status, stdin=None, input=answer)
        assert bool(calls) == (status == 0)


def test_the_commands_of_the_guide_run(cloud):
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
