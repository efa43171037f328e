"""The scripts of tpu/vm with a fake `gcloud`, see `cloud`."""

import pytest

from tests.tpu.vm.cloud import POD, TRAIN, executable

COMMANDS = {
    "create": ("create", *POD, "--tpu=v5litepod-16", "--spot", "--project=my project"),
    "set_up": ("set_up", *POD, "--backend=jax"),
    "run": ("run", "--name", "it's", "--zone", "a b", "--project=p", "--tpu=v3-128", *TRAIN),
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
    assert [call[3] for call in calls] == ["describe", "create", "describe"]
    assert calls[1] == [
        *("compute", "tpus", "tpu-vm", "create", "pod", "--zone=europe-west4-a"),
        *("--accelerator-type=v3-128", "--version=tpu-ubuntu2204-base"),
    ]
    # It exists, and becomes ready.
    cloud.set_state("CREATING\tv3-128", "CREATING\tv3-128", "READY\tv3-128")
    _, calls = cloud.run("create", *POD, "--tpu=v3-128")
    assert [call[3] for call in calls] == ["describe"] * 3
    for state, problem in (
        ("PREEMPTED\tv3-128", "pod is 'PREEMPTED': delete it"),
        ("READY\tv3-8", "pod exists already and is a v3-8, not a v3-128"),
    ):
        cloud.set_state(state)
        result, _ = cloud.run("create", *POD, "--tpu=v3-128", status=2)
        assert f"error: {problem}" in result.stderr


BAD_INPUT = {
    "unknown flag": ("create", *POD, "--typ=v3-8", "--typ"),
    "no value": ("delete", "--zone=z", "--name", "--name"),
    "unknown type": ("create", *POD, "--tpu=v3-100", "'v3-100'"),
    "no program": ("run", *POD, "--tpu=v3-8", "no program"),
    "not asked": ("delete", *POD, "not deleted: pod"),
}


@pytest.mark.parametrize("words", BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_flags_are_one_line(cloud, words):
    *arguments, culprit = words
    result, calls = cloud.run(*arguments, status=2)
    assert result.stdout == "" and calls == []
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ") and culprit in line


def test_errors_of_gcloud_come_out(cloud):
    executable(cloud.folder / "gcloud", "#!/bin/sh\necho no quota >&2; exit 7\n")
    for name in ("create", "set_up", "run"):
        result, _ = cloud.run(*COMMANDS[name], status=7)
        assert "no quota" in result.stderr


def test_delete_asks_first(cloud):
    for answer, status in (("y\n", 0), ("n\n", 2), ("\n", 2)):
        _, calls = cloud.run("delete", *POD, status=status, stdin=None, input=answer)
        assert bool(calls) == (status == 0)
