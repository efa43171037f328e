"""The devices of a run: the strategy for a TPU, for several machines, for one."""

import json
import re
import socket
import subprocess

import pytest
import tensorflow as tf
from absl import flags

from tests.tpu.refusals import refused
from tests.tpu.servers import background, vm_answers
from tpu import addresses
from tpu.devices import gpus, is_shared
from tpu.flags import define_flags
from tpu.strategy import _read_tf_config, get_strategy

# --- what TensorFlow is given ------------------------------------------------------------------


@pytest.fixture
def tensorflow(monkeypatch):
    """Stands in for TensorFlow's TPUs; a dict of the address it got, and the replicas it has."""
    given = {"replicas": 8}

    class Strategy:
        num_replicas_in_sync = property(lambda self: given["replicas"])

    class Resolver:
        def __init__(self, address):
            given["address"] = address

        def cluster_spec(self):
            hosts = given.get("hosts") or given["address"].replace("grpc://", "").split(",")
            return tf.train.ClusterSpec({"worker": hosts})

    def step(name, result=None):
        def call(resolver):
            assert isinstance(resolver, Resolver)
            given.setdefault("steps", []).append(name)
            return result

        return call

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", Resolver)
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


def test_chips_in_this_machine(tensorflow, chips):
    chips(4)
    for tpu in ("local", "v3-8"):
        get_strategy(tpu)
        assert tensorflow["address"] == "local"


def test_on_a_tpu_vm(tensorflow, google, tpu_hosts, monkeypatch):
    google.update(vm_answers("v3-8", "10.164.0.7"))
    get_strategy("v3-8")
    assert tensorflow["address"] == "local"

    hosts = [f"10.164.0.{number}" for number in range(16)]
    google.update(vm_answers("v3-128", *hosts))
    asked = []
    monkeypatch.setattr(addresses, "check_servers", asked.extend)
    tensorflow["replicas"] = 128
    get_strategy("v3-128")
    assert asked == [f"{host}:8470" for host in hosts]
    assert tensorflow["address"] == ",".join(f"grpc://{host}:8470" for host in hosts)


def test_by_name(tensorflow, tpu_hosts, places):
    tensorflow["hosts"] = tpu_hosts
    get_strategy("my-tpu")
    assert tensorflow["address"] == "my-tpu"
    tensorflow["hosts"] = [places["closed"]]
    refused("my-tpu", message=f"'my-tpu'.*{places['closed']}")


def test_wrong_number_of_replicas(tensorflow, tpu_hosts):
    tensorflow["replicas"] = 4
    refused("v3-8", tpu_hosts[0], "'v3-8'.* 8 replicas.* 4 ")
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
        refused("local", message=f"'local'.*{error!s:.9}.*tensorflow-tpu")


# --- without --tpu -----------------------------------------------------------------------------

CLUSTER = {"worker": ["a:1", "b:1"]}
TASK = {"type": "worker", "index": 0}


def test_good_tf_config(monkeypatch):
    for config in (
        {"cluster": CLUSTER, "task": TASK, "environment": "cloud"},
        {"cluster": {"chief": ["c:1"], **CLUSTER}, "task": TASK},
    ):
        monkeypatch.setenv("TF_CONFIG", json.dumps(config))
        assert _read_tf_config() == config


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
from tpu import addresses
from tpu.strategy import get_strategy
addresses.CHIPS = ("/dev/null",)
try:
    strategy = get_strategy({tpu})
except ValueError as error:
    print(error)
else:
    print(type(strategy).__name__, strategy.num_replicas_in_sync)
"""


def output(code, **environment):
    with background(code, env=environment, stdout=subprocess.PIPE) as process:
        return process.communicate()[0].strip()


@pytest.mark.slow
def test_real_tensorflow_without_tpus():
    assert re.search("'local'.*tensorflow-tpu", output(REAL.format(tpu="'local'")))


@pytest.mark.slow
def test_real_worker():
    """The checks before the strategy is made do not initialise devices too early."""
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


def test_gpus_say_what_they_can(monkeypatch):
    assert gpus() == []
    details = {"first": {"device_name": "A", "compute_capability": (8, 6)}, "second": {}}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(details))
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.get)
    assert gpus() == [("A", (8, 6)), ("", (0, 0))]


def test_what_shares_batches():
    assert not is_shared(get_strategy())
    assert is_shared(tf.distribute.MirroredStrategy(["CPU:0"]))
