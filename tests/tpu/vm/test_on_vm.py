"""The scripts on the hosts of a TPU, which are folders here, see `cloud`."""

import fcntl
import json
import os
import re
import shutil
import signal

from tests.tpu.vm.cloud import (
    POD,
    SYSTEM_PYTHON,
    TRAIN,
    alive,
    executable,
    pid,
    wait_for,
)


def test_a_run_on_several_hosts_starts_stops_and_resumes(cloud):
    homes = [home / "vitbert" for home in cloud.add_hosts(2)]
    start = ("run", *POD, "--tpu=v4-16", *TRAIN)
    cloud.run(*start)
    for home in homes:
        assert (home / "server.log").read_text() == "tpu.worker: listening\n"
    program, servers = pid(homes[0], "train"), [pid(home, "server") for home in homes]
    told = json.loads(wait_for(homes[0] / "train.log", "]"))
    assert told == ["0", *TRAIN[1:], "--tpu=v4-16"]
    assert not (homes[1] / "train.log").exists()

    result, _ = cloud.run(*start, status=2)
    assert re.search("\nerror: train runs already on .*\n$", result.stderr)
    assert [pid(home, "server") for home in homes] == servers  # they are in use
    assert alive(program)

    result, _ = cloud.run("run", *POD, "--stop")
    assert re.search("^train stopped on .*: exit status 75\n", result.stdout, re.MULTILINE)
    assert (homes[0] / "train.log").read_text().endswith("\nexit status 75\n")
    assert not any(map(alive, [program, *servers]))
    result, _ = cloud.run("run", *POD, "--stop")
    assert re.search("^train does not run on ", result.stdout)

    cloud.run(*start)  # the same command goes on; the last log is kept
    assert (homes[0] / "train.log.old").read_text().endswith("\nexit status 75\n")
    # Killed, it leaves nothing that looks like a run.
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


def test_a_run_on_jax_is_the_same_command_on_every_host(cloud):
    homes = [home / "vitbert" for home in cloud.add_hosts(2)]
    cloud.run("run", *POD, "--tpu=v4-16", "--", "-m", "x")  # TensorFlow's servers hold the chips
    servers = [pid(home, "server") for home in homes]
    start = ("run", *POD, "--tpu=v4-16", *TRAIN, "--backend=jax")
    cloud.run(*start, status=2)  # a program runs already
    assert all(map(alive, servers))
    cloud.run("run", *POD, "--stop")

    cloud.run(*start)
    for home in homes:
        told = json.loads(wait_for(home / "train.log", "]"))
        assert told == ["JAX", *TRAIN[1:], "--backend=jax", "--tpu=v4-16"]
        assert not (home / "server.log").exists()
    programs = [pid(home, "train") for home in homes]
    cloud.run("run", *POD, "--stop")
    assert not any(map(alive, [*servers, *programs]))

    (homes[1] / "venv-jax" / "bin" / "python").unlink()
    (homes[0] / "train.log").unlink()
    result, _ = cloud.run(*start, status=2)
    assert "set_up.sh --backend=jax" in result.stderr
    assert not (homes[0] / "train.log").exists()  # it would wait for the other host


def test_no_program_is_started_without_all_servers(cloud):
    homes = [home / "vitbert" for home in cloud.add_hosts(2)]
    broken = "#!/bin/sh\necho libtpu is not there; exit 1\n"
    executable(homes[1] / "venv" / "bin" / "python", broken)
    result, _ = cloud.run("run", *POD, "--tpu=v4-16", "--", "-m", "x", status=2)
    assert re.search(
        "\nerror: server ended on .*: libtpu is not there exit status 1", result.stderr
    )
    assert not (homes[0] / "train.log").exists()


def test_set_up_copies_the_checkout_and_installs_it(cloud):
    homes = cloud.add_hosts(2)
    shutil.rmtree(homes[1] / "vitbert")  # a new one
    # The system's Python 3.10: it installs uv, and this makes a Python and installs into it.
    executable(cloud.folder / "python3", SYSTEM_PYTHON)
    (homes[0] / "vitbert" / "code" / "stale.py").touch()
    cloud.run("set_up", *POD)
    for home in homes:
        code = home / "vitbert" / "code"
        assert (code / "keras_vitbert" / "pretrain.py").exists() and (code / "README.md").exists()
        assert not (code / "stale.py").exists() and not (home / "vitbert" / "new").exists()
    cloud.run("set_up", *POD, "--backend=jax")
    calls = (homes[1] / "installed").read_text()
    for venv, extras in (("venv", "sample"), ("venv-jax", "sample,jax-tpu")):
        assert f"-m uv venv --quiet --python 3.11 {venv}\n" in calls  # each has a libtpu of its own
        assert re.search(rf"--python {venv}/bin/python .*--editable code\[{extras}\]\n", calls)
    assert "uv venv" not in (homes[0] / "installed").read_text()  # it had both

    (homes[0] / "vitbert" / "code" / "stale.py").touch()
    with open(homes[0] / "vitbert" / "train.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as a run does
        result, _ = cloud.run("set_up", *POD, status=2)
    assert result.stderr.count("error: a run or its server is active on") == 1
    assert (homes[0] / "vitbert" / "code" / "stale.py").exists()
