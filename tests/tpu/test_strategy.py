"""Which devices are found: bad `--tpu`s get one line within seconds, good ones their strategy."""

import contextlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import time

import pytest
import tensorflow as tf
from absl import flags

from keras_vitbert import pretrain
from pipelines import command_line
from pipelines.command_line import UserError
from tests.tpu.conftest import ROOT, background
from tpu import addresses
from tpu.strategy import check_tf_config, define_flags, get_strategy

SECONDS = 15  # the longest that a user may wait for an answer
WAITING = ("dead", "silent")  # places where a limit is all that ends the wait


def refused(tpu, tpu_address="", message=""):
    """Asserts that the command ends with status 2 and one line, in time."""
    argv = [] if tpu is None else [f"--tpu={tpu}"]
    argv += [f"--tpu_address={tpu_address}"] if tpu_address else []
    start, errors = time.monotonic(), io.StringIO()
    with contextlib.redirect_stderr(errors):
        assert command_line.run(pretrain.main, argv) == command_line.EXIT_BAD_INPUT
    assert time.monotonic() - start < SECONDS
    [line] = errors.getvalue().splitlines()
    text = line.removeprefix("error: ")
    assert re.search(message, text), text
    assert text.isprintable() and len(text) < 600, text
    return text


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


# --- addresses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("closed", r"no connection \(Connection refused\); correct the address, or start"),
        ("dead", r"no answer in 0\.1 s; correct the address, or start"),
        ("silent", r"takes connections but is silent for 0\.1 s; correct the address, or start"),
        ("http", r"no TensorFlow server answers \(UNAVAILABLE\); correct the address"),
        ("other", r"no TensorFlow server answers \(UNIMPLEMENTED\); correct the address"),
        ("garbled", r"something other than a TensorFlow server answers; correct the address"),
        ("plain", r"a TensorFlow server without TPUs answers \(its devices: .*CPU.*\); correct"),
    ],
)
@pytest.mark.parametrize(
    ("tpu", "tpu_address"), [("grpc://{}", ""), ("v3-128", "{}"), ("v3-8", "grpc://{}")]
)
def test_no_tpu_answers(places, monkeypatch, place, message, tpu, tpu_address):
    if place in WAITING:
        monkeypatch.setattr(addresses, "SERVER_SECONDS", 0.1)
    address = places[place]
    message = rf"^TPU address grpc://{address}: {message}"
    refused(tpu.format(address), tpu_address.format(address), message)


def test_one_of_several_is_dead(places, tpu_hosts, monkeypatch):
    monkeypatch.setattr(addresses, "SERVER_SECONDS", 2)
    several = ",".join([*tpu_hosts, places["dead"]])
    refused(f"grpc://{several}", message=rf"^TPU address grpc://{places['dead']}: no answer")


@pytest.mark.slow
def test_limits_are_kept(places):
    """The limits that users meet: servers that are dead, lost and silent, all at the same time."""
    waiting = [places["dead"], places["silent"], "192.0.2.1:8470", "10.255.255.1:8470"]
    start = time.monotonic()
    checks = [addresses.in_background(addresses.check_server, address) for address in waiting]
    assert all(isinstance(check.exception(SECONDS), UserError) for check in checks)
    assert time.monotonic() - start < 10


def test_unresolvable_host():
    refused("grpc://no-such-host.invalid:8470", message=r"^TPU address grpc://no-such-host\.inval")
    refused(f"grpc://{'a' * 70}:8470", message="the host name a+ cannot be resolved; correct")


def test_name_resolution_that_hangs(monkeypatch):
    monkeypatch.setattr(addresses, "SERVER_SECONDS", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: time.sleep(60))
    refused(
        "grpc://somewhere:8470", message="^TPU address grpc://somewhere:8470: no answer in 0.1 s"
    )


# --- accelerator types and names ---------------------------------------------------------------


def test_accelerator_type_that_is_nowhere():
    host = os.environ["GCE_METADATA_HOST"]
    message = (
        rf"^--tpu=v3-128: no such TPU found: no --tpu_address; metadata server {host}: no answer "
        r"\(Connection refused\); no TPU chips in this machine \(.*accel\*, .*vfio.*\); give "
        r"--tpu_address=grpc://HOST:8470 .*; `python -m tpu\.aot --tpu=v3-128` proves the run"
    )
    refused("v3-128", message=message)


@pytest.mark.parametrize("tpu", ["v3-128", "my-tpu"])
@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("silent", "metadata server .*: no answer in 0.1 s"),
        ("dead", "metadata server .*: no answer in 0.1 s"),
        ("http", r"metadata server .*: not Google Cloud's \(it answered 404\)"),
        ("other", "metadata server .*: no answer"),
    ],
)
def test_no_metadata_server(places, monkeypatch, tpu, place, message):
    monkeypatch.setenv("GCE_METADATA_HOST", places[place])
    if place in WAITING:
        monkeypatch.setattr(addresses, "METADATA_SECONDS", 0.1)
    refused(tpu, message=message)


def test_usual_metadata_server(monkeypatch):
    """Whatever answers at the usual address here, it is no hang."""
    monkeypatch.delenv("GCE_METADATA_HOST")
    refused("v3-128", message=r"metadata server 169\.254\.169\.254: ")


def vm(accelerator_type, *hosts):
    endpoints = ",".join(f"unknown:unknown:{host}" for host in hosts)
    return {
        "attributes/accelerator-type": (200, accelerator_type),
        "attributes/worker-network-endpoints": (200, endpoints),
    }


def node(accelerator_type, *hosts, state="READY"):
    endpoints = [{"ipAddress": host, "port": 8470} for host in hosts]
    answer = {"acceleratorType": accelerator_type, "networkEndpoints": endpoints, "state": state}
    return {"/v2/projects/my-project/locations/europe-west4-a/nodes/my-tpu": (200, answer)}


@pytest.mark.parametrize(
    ("tpu", "answers", "message"),
    [
        ("v3-128", {}, "^--tpu=v3-128: no such TPU found: .*this machine is no TPU VM; no TPU ch"),
        ("v3-128", vm("v3-8"), "^--tpu=v3-128: this machine belongs to a v3-8; give --tpu=v3-8$"),
        ("v3-32", vm("v3-32"), "^--tpu=v3-32: has 4 hosts, but there are addresses of 0; give"),
        (
            "my-tpu",
            {},
            "^--tpu=my-tpu: there is no TPU of this name in project my-project, zone eu",
        ),
        ("my-tpu", node("v3-8", state="CREATING"), "^--tpu=my-tpu: it is CREATING; wait until"),
        (
            "my-tpu",
            node("v9-8", "a"),
            "^--tpu=my-tpu: it is of a type that is unknown here: .*v9-8",
        ),
        ("my-tpu", {"/my-tpu": (403, "")}, "^--tpu=my-tpu: Google Cloud answered 403.*role"),
        ("my-tpu", {"/my-tpu": (200, "<html>")}, "^--tpu=my-tpu: cannot be looked up.*cannot be r"),
        ("my-tpu", {"/my-tpu": (200, "[]")}, "^--tpu=my-tpu: cannot be looked up by name: Google"),
        ("my-tpu", {"/token": (404, "")}, "^--tpu=my-tpu: cannot .* has no service account"),
        ("my-tpu", {"/token": (200, "{}")}, "^--tpu=my-tpu: cannot .* cannot be read"),
    ],
)
def test_google_cloud_has_no_such_tpu(google, tpu, answers, message):
    for end, (status, text) in answers.items():
        google.pop("service-accounts/default/token") if end == "/token" else None
        google[end] = status, text if isinstance(text, str) else json.dumps(text)
    refused(tpu, message=message)


def test_google_cloud_is_silent(google, places, monkeypatch):
    monkeypatch.setattr(addresses, "TPU_API", f"http://{places['silent']}/v2")
    with monkeypatch.context() as patch:
        patch.setattr(addresses, "NODE_SECONDS", 0.5)
        refused("my-tpu", message="^--tpu=my-tpu: cannot be looked up by name: .*no answer")
    monkeypatch.setattr(addresses, "TPU_API", f"http://{places['closed']}/v2")
    refused("my-tpu", message="^--tpu=my-tpu: cannot be .*: no answer \\(Connection refused\\)")


def test_hosts_of_a_slice_are_counted(tpu_hosts, google, monkeypatch):
    refused("v3-128", tpu_hosts[0], "^--tpu=v3-128: has 16 hosts, but there are addresses of 1;")
    refused("v3-8", ",".join(tpu_hosts), "^--tpu=v3-8: has 1 hosts, but there are addresses of 2;")


def test_chips_that_are_not_enough(chips, google):
    refused("local", message=r"^--tpu=local: no TPU chips in this machine \(.*\); run on a TPU VM")
    chips(4)
    refused("v3-32", message="; 4 chips of 16 in this machine; give --tpu_address")
    google.update(vm("v3-32", "a", "b", "c", "d"))
    refused("local", message="is one of the 4 hosts of a v3-32; give --tpu=v3-32$")


# --- what TensorFlow is given ------------------------------------------------------------------


@pytest.fixture
def tensorflow(monkeypatch):
    """Stands in for TensorFlow's TPUs; a dict of the address it got, and the replicas it has."""
    given = {"replicas": 8}

    class Strategy:
        num_replicas_in_sync = property(lambda self: given["replicas"])

    def resolver(address):
        given["address"] = address
        return "resolver"

    def step(name, result=None):
        def call(resolver):
            assert resolver == "resolver"
            given.setdefault("steps", []).append(name)
            return result

        return call

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", resolver)
    monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", step("connect"))
    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", step("initialize"))
    monkeypatch.setattr(tf.distribute, "TPUStrategy", step("strategy", Strategy()))
    return given


def test_addresses_reach_tensorflow(tensorflow, tpu_hosts):
    first, second = tpu_hosts
    for tpu, tpu_address, expected in (
        (f"grpc://{first}", "", f"grpc://{first}"),
        (f"grpc://{first},{second}", "", f"grpc://{first},grpc://{second}"),
        ("v3-8", first, f"grpc://{first}"),
        ("v4-16", f"grpc://{first},grpc://{second}", f"grpc://{first},grpc://{second}"),
    ):
        assert get_strategy(tpu, tpu_address).num_replicas_in_sync == 8
        assert tensorflow["address"] == expected
    assert tensorflow["steps"] == ["connect", "initialize", "strategy"] * 4
    assert os.environ["TPU_LOAD_LIBRARY"] == "0"  # the chips, if any, are the servers'


def test_chips_in_this_machine(tensorflow, chips):
    chips(4)
    for tpu in ("local", "v3-8"):
        get_strategy(tpu)
        assert tensorflow["address"] == "local"
    assert "TPU_LOAD_LIBRARY" not in os.environ


def test_on_a_tpu_vm(tensorflow, google, tpu_hosts, monkeypatch):
    google.update(vm("v3-8", "10.164.0.7"))
    get_strategy("v3-8")
    assert tensorflow["address"] == "local"

    hosts = [f"10.164.0.{number}" for number in range(16)]
    google.update(vm("v3-128", *hosts))
    asked = []
    monkeypatch.setattr(addresses, "check_server", asked.append)
    tensorflow["replicas"] = 128
    get_strategy("v3-128")
    assert sorted(asked) == sorted(f"{host}:8470" for host in hosts)
    assert tensorflow["address"] == ",".join(f"grpc://{host}:8470" for host in hosts)


def test_by_name(tensorflow, google, monkeypatch):
    path, (status, answer) = node("v3-8", "10.164.0.7").popitem()
    google[path] = status, json.dumps(answer)
    monkeypatch.setattr(addresses, "check_server", lambda address: None)
    get_strategy("my-tpu")
    assert tensorflow["address"] == "grpc://10.164.0.7:8470"
    google.update(vm("v3-8", "10.164.0.7"))  # its only host is this machine
    get_strategy("my-tpu")
    assert tensorflow["address"] == "local"


def test_wrong_number_of_replicas(tensorflow, tpu_hosts):
    tensorflow["replicas"] = 4
    message = "^--tpu=v3-8: a v3-8 has 8 replicas, but TensorFlow found 4 at grpc://.*; give the ty"
    refused("v3-8", tpu_hosts[0], message)
    assert get_strategy(f"grpc://{tpu_hosts[0]}").num_replicas_in_sync == 4


def test_errors_of_tensorflow(tensorflow, chips, monkeypatch):
    chips(4)
    for error in (
        tf.errors.NotFoundError(None, None, "TPUs not found\nin the cluster"),
        RuntimeError("TPU cores on each host is not same"),
    ):

        def fail(resolver, error=error):
            raise error

        monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", fail)
        message = r"^--tpu=local: TensorFlow 2\..* found no TPU at local \(TPU.*tensorflow-tpu"
        refused("local", message=message)


# --- without --tpu -----------------------------------------------------------------------------

CLUSTER = {"worker": ["a:1", "b:1"]}
TASK = {"type": "worker", "index": 0}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{'cluster'", "not JSON"),
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


def test_good_tf_config():
    check_tf_config(json.dumps({"cluster": CLUSTER, "task": TASK, "environment": "cloud"}))
    check_tf_config(json.dumps({"cluster": {"chief": ["c:1"], **CLUSTER}, "task": TASK}))


@pytest.mark.parametrize(("gpus", "way"), [([], "RING"), (["GPU:0"], "AUTO")])
def test_several_machines(monkeypatch, gpus, way):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": CLUSTER, "task": TASK}))
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    monkeypatch.setattr(tf.config, "list_logical_devices", None)  # would be too early
    monkeypatch.setattr(
        tf.distribute,
        "MultiWorkerMirroredStrategy",
        lambda communication_options: communication_options,
    )
    assert get_strategy().implementation.name == way


@pytest.mark.parametrize("gpus", [0, 1, 2])
def test_one_machine(monkeypatch, gpus):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["GPU"] * gpus)
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda: "mirrored")
    assert get_strategy() == ("mirrored" if gpus > 1 else tf.distribute.get_strategy())


REAL = """
from keras_vitbert import pretrain
from pipelines import command_line
from pipelines.command_line import UserError
from tpu import addresses
from tpu.strategy import get_strategy
addresses.CHIPS = ("/dev/null",)
try:
    strategy = get_strategy({tpu})
except UserError as error:
    print(error)
else:
    print(type(strategy).__name__, strategy.num_replicas_in_sync)
"""


def output(code, **environment):
    with background(code, env=environment, stdout=subprocess.PIPE) as process:
        return process.communicate()[0].strip()


@pytest.mark.slow
def test_real_tensorflow_without_tpus():
    message = "--tpu=local: TensorFlow .* found no TPU at local .TPUs not found in the clu"
    assert re.match(message, output(REAL.format(tpu="'local'")))


@pytest.mark.slow
def test_real_worker():
    """What is looked at before the strategy is made does not come too early for it."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        workers = [f"localhost:{free.getsockname()[1]}"]
    config = json.dumps({"cluster": {"worker": workers}, "task": TASK})
    assert output(REAL.format(tpu=""), TF_CONFIG=config) == "CollectiveAllReduceStrategy 1"


# --- flags -------------------------------------------------------------------------------------


def test_flags():
    for argv, expected in (
        ([], (None, "")),
        (["--tpu="], ("", "")),
        (["--tpu=v3-8", "--tpu_address=a:1,b:1"], ("v3-8", "a:1,b:1")),
    ):
        values = flags.FlagValues()
        define_flags(values)
        values(["command", *argv])
        assert (values.tpu, values.tpu_address) == expected


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
