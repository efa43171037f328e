"""Bad `--tpu`s and a bad `TF_CONFIG` get one line within seconds."""

import json
import os
import socket
import subprocess
import sys

import pytest

from tests.tpu.refusals import refused
from tests.tpu.servers import ROOT, node_answers, vm_answers

# --- values that are wrong by themselves -------------------------------------------------------


@pytest.mark.parametrize(
    ("tpu", "message"),
    [
        ("", r"^--tpu is empty; --tpu takes an accelerator type \(v3-128\), grpc://HOST:8470"),
        ("v3_128", r"^--tpu=v3_128: .*did you mean v3-128\?"),
        ("V3-128", r"^--tpu=V3-128: .*did you mean v3-128\?"),
        ("v5e-16", r"^--tpu=v5e-16: .*did you mean v5litepod-16\?"),
        ("v3-100", r"^--tpu=v3-100: .*known are v3-8, v3-32, "),
        ("v3-12x", r"^--tpu=v3-12x: .*known are v3-8, v3-32, "),
        ("v9-8", r"^--tpu=v9-8: .*known are v2-8 to v2-512, "),
        ("v3-128 ", r"^--tpu='v3-128 ': .*did you mean v3-128\?"),
        ("/home/me/tpu", r"^--tpu=/home/me/tpu: not the name of a TPU; --tpu takes"),
        ("projects/p/nodes/n", r"^--tpu=projects/p/nodes/n: not the name of a TPU; --tpu takes"),
        ("tpü", r"^--tpu=tpü: not the name of a TPU; --tpu takes"),
        ("１２７", r"^--tpu=１２７: not "),
        ("my tpu", r"^--tpu='my tpu': not the name of a TPU; --tpu takes"),
        ("my-tpu\n", r"^--tpu='my-tpu\\n': not the name of a TPU; --tpu takes"),
        ("my-tpu\0", r"^--tpu='my-tpu\\x00': not the name of a TPU; --tpu takes"),
        ("My-TPU", r"^--tpu=My-TPU: not the name of a TPU; --tpu takes"),
        ("a" * 64, r"^--tpu=a+: not the name of a TPU; --tpu takes"),
        ("http://localhost:8470", r"^--tpu=http://localhost:8470: not the name of a TPU; --tpu ta"),
        ("localhost:8470", r"^--tpu=localhost:8470: .*\(did you mean grpc://localhost:8470\?\)"),
        ("grpc://", r"^--tpu=grpc://: an address is empty; give grpc://HOST:8470"),
        ("grpc://localhost", r"^--tpu=grpc://localhost: 'localhost' has no port; give grpc://HOST"),
        ("grpc://localhost:", r": port '' is not a number from 1 to 65535; give"),
        ("grpc://localhost:0", r": port '0' is not a number from 1 to 65535; give"),
        ("grpc://localhost:65536", r": port '65536' is not a number from 1 to 65535; give"),
        ("grpc://localhost:８４７０", r": port '８４７０' is not a number from 1 to 65535; give"),
        ("grpc://localhost:8470/", r": port '8470/' is not a number from 1 to 65535; give"),
        ("grpc://[::1]:8470", r": '\[::1\]' is neither a host name nor an IPv4 address; give"),
        ("grpc://:8470", r"^--tpu=grpc://:8470: '' is neither a host name nor"),
        ("grpc://a:8470,", r"^--tpu=grpc://a:8470,: an address is empty; give"),
        ("grpc://a:8470, b:8470", r"^--tpu='grpc://a:8470, b:8470': ' b' is neither a host name"),
        ("grpc://a:8470,http://b:80", r": 'http://b' is neither a host name"),
        ("grpc://a:8470,grpc://a:8470", r": a:8470 is there twice; give"),
    ],
)
def test_bad_values(tpu, message, monkeypatch):
    monkeypatch.setattr(socket, "socket", None)  # they need no look at the network
    refused(tpu, message=message)


@pytest.mark.parametrize(
    ("tpu", "tpu_address", "message"),
    [
        (None, "localhost:8470", r"^--tpu_address=localhost:8470: give --tpu with it"),
        ("local", "localhost:8470", r"^--tpu_address=localhost:8470: goes with .*leave it out$"),
        ("my-tpu", "localhost:8470", r"^--tpu_address=localhost:8470: goes with .*--tpu=my-tpu"),
        ("grpc://a:1", "a:1", r"^--tpu_address=a:1: goes with .*--tpu=grpc://a:1; leave it out$"),
        ("v3-8", "localhost", r"^--tpu_address=localhost: 'localhost' has no port; give grpc://"),
        ("v3-8", "a:1,,b:1", r"^--tpu_address=a:1,,b:1: an address is empty"),
    ],
)
def test_bad_pairs(tpu, tpu_address, message):
    refused(tpu, tpu_address, message)


# --- accelerator types and names ---------------------------------------------------------------


def test_accelerator_type_that_is_nowhere():
    host = os.environ["GCE_METADATA_HOST"]
    message = (
        rf"^--tpu=v3-128: no such TPU found: no --tpu_address; metadata server {host}: no answer "
        r"\(Connection refused\); no TPU chips in this machine \(.*accel\*, .*vfio.*\); give "
        r"--tpu_address=grpc://HOST:8470 .*; `python -m tpu\.aot --tpu=v3-128` proves the run"
    )
    refused("v3-128", message=message)


@pytest.mark.parametrize(
    ("tpu", "answers", "message"),
    [
        (
            "v3-128",
            vm_answers("v3-8"),
            "^--tpu=v3-128: this machine belongs to a v3-8; give --tpu=v3-8$",
        ),
        (
            "v3-32",
            vm_answers("v3-32"),
            "^--tpu=v3-32: has 4 hosts, but there are addresses of 0; give",
        ),
        (
            "my-tpu",
            node_answers("v9-8", "a"),
            "^--tpu=my-tpu: it is of an unknown type: .*v9-8",
        ),
    ],
)
def test_google_cloud_tells_of_another_tpu(google, tpu, answers, message):
    google.update(answers)
    refused(tpu, message=message)


def test_hosts_of_a_slice_are_counted(tpu_hosts, google, monkeypatch):
    refused("v3-128", tpu_hosts[0], "^--tpu=v3-128: has 16 hosts, but there are addresses of 1;")
    refused("v3-8", ",".join(tpu_hosts), "^--tpu=v3-8: has 1 hosts, but there are addresses of 2;")


def test_chips_that_are_not_enough(chips, google):
    refused("local", message=r"^--tpu=local: no TPU chips in this machine \(.*\); run on a TPU VM")
    chips(4)
    refused("v3-32", message="; 4 chips of 16 in this machine; give --tpu_address")
    google.update(vm_answers("v3-32", "a", "b", "c", "d"))
    refused("local", message="is one of the 4 hosts of a v3-32; give --tpu=v3-32$")


# --- without --tpu --------------------------------------------------------------------------------

CLUSTER = {"worker": ["a:1", "b:1"]}
TASK = {"type": "worker", "index": 0}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{'cluster'", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ([], "not an object"),
        ({}, "it has no cluster"),
        ({"cluster": [], "task": TASK}, "it has no cluster"),
        ({"cluster": {}, "task": TASK}, "it has no cluster"),
        ({"cluster": {"ps": ["a:1"]}, "task": TASK}, r"its jobs \['ps'\] are not all workers"),
        ({"cluster": {"worker": "a:1"}, "task": TASK}, "cluster.worker is not a list"),
        ({"cluster": {"worker": []}, "task": TASK}, "cluster.worker is not a list"),
        ({"cluster": {"worker": ["a"]}, "task": TASK}, "cluster.worker: 'a' has no port"),
        ({"cluster": {"worker": [[]]}, "task": TASK}, "cluster.worker: .* has no port"),
        ({"cluster": {"worker": ["a:x"]}, "task": TASK}, "cluster.worker: port 'x' is not"),
        ({"cluster": {"worker": ["a:1", "a:1"]}, "task": TASK}, "an address twice"),
        ({"cluster": {"chief": ["a:1", "b:1"]}, "task": TASK}, "several chiefs"),
        ({"cluster": CLUSTER}, "it has no task"),
        ({"cluster": CLUSTER, "task": {"index": 0}}, r"task.type None .* \(worker\)"),
        ({"cluster": CLUSTER, "task": {"type": "chief", "index": 0}}, "task.type 'chief' is no"),
        ({"cluster": CLUSTER, "task": {"type": [], "index": 0}}, r"task.type \[\] is no job"),
        ({"cluster": CLUSTER, "task": {"type": "worker"}}, "task.index None is not from 0 to 1"),
        ({"cluster": CLUSTER, "task": {**TASK, "index": 2}}, "task.index 2 is not from 0 to 1"),
        ({"cluster": CLUSTER, "task": {**TASK, "index": -1}}, "task.index -1 is not from 0 to 1"),
        ({"cluster": CLUSTER, "task": {**TASK, "index": True}}, "task.index True is not from"),
    ],
)
def test_bad_tf_config(monkeypatch, config, message):
    monkeypatch.setenv("TF_CONFIG", config if isinstance(config, str) else json.dumps(config))
    refused(None, message=rf'^TF_CONFIG: .*{message}.*; unset it, or give {{"cluster": ')


# --- before TensorFlow is loaded ------------------------------------------------------------------


def test_checks_come_before_tensorflow(places):
    """They say no to a bad address, and to a server without TPUs, before it is loaded."""
    code = f"""
import sys
from keras_vitbert import pretrain
from pipelines import command_line
from pipelines.command_line import UserError
from tpu import addresses
from tpu.strategy import check_flags
addresses.CHIPS = ()
for tpu in ("v3-100", "v3-8", "grpc://{places["plain"]}"):
    try:
        check_flags(tpu)
    except UserError as error:
        print(str(error)[:11], "tensorflow" in sys.modules)
assert check_flags() is None
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    expected = ["--tpu=v3-10 False", "--tpu=v3-8: False", "TPU address False"]
    assert done.stdout.splitlines() == expected and not done.stderr
