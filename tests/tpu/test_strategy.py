"""The devices of a run: the strategy for a TPU, for several machines, for one."""

import json
import socket
import subprocess

import pytest
import tensorflow as tf

from tests.tpu.refusals import refused
from tests.tpu.servers import background, vm_answers
from tpu import addresses
from tpu.devices import gpus, is_shared
from tpu.strategy import get_strategy

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


def test_chips_in_this_machine_are_local(tensorflow, chips):
    chips(4)
    for tpu in ("local", "v3-8"):
        get_strategy(tpu)
        assert tensorflow["address"] == "local"


def test_a_tpu_vm_knows_the_hosts_of_its_slice(tensorflow, google, tpu_hosts, monkeypatch):
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


def test_a_name_is_looked_up_by_tensorflow(tensorflow, tpu_hosts, places):
    tensorflow["hosts"] = tpu_hosts
    get_strategy("my-tpu")
    assert tensorflow["address"] == "my-tpu"
    tensorflow["hosts"] = [places["closed"]]
    refused("my-tpu", message=f"'my-tpu'.*{places['closed']}")


def test_another_number_of_replicas_than_the_slice_has_is_refused(tensorflow, tpu_hosts):
    tensorflow["replicas"] = 4
    refused("v3-8", tpu_hosts[0], "'v3-8'.* 8 replicas.* 4 ")
    assert get_strategy(f"grpc://{tpu_hosts[0]}").num_replicas_in_sync == 4


def test_errors_of_tensorflow_are_one_line(tensorflow, chips, monkeypatch):
    chips(4)

    def fail(resolver):
        raise tf.errors.NotFoundError(None, None, "TPUs not found\nin the cluster")

    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", fail)
    refused("local", message="'local'.*TPUs not found.*tensorflow-tpu")


# --- without --tpu -----------------------------------------------------------------------------

CLUSTER = {"worker": ["a:1", "b:1"]}
TASK = {"type": "worker", "index": 0}


@pytest.mark.parametrize(("gpus", "way"), [([], "RING"), (["GPU:0"], "AUTO")])
def test_several_machines_reduce_over_rings_on_cpus(monkeypatch, gpus, way):
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
def test_one_machine_mirrors_over_its_gpus(monkeypatch, gpus):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["GPU"] * gpus)
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda: "mirrored")
    assert get_strategy() == ("mirrored" if gpus > 1 else tf.distribute.get_strategy())


REAL = """
from keras_vitbert import pretrain
from tpu.strategy import get_strategy
strategy = get_strategy()
print(type(strategy).__name__, strategy.num_replicas_in_sync)
"""


@pytest.mark.slow
def test_a_worker_by_real_tensorflow():
    """The checks before the strategy is made do not initialise devices too early."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        workers = [f"localhost:{free.getsockname()[1]}"]
    config = json.dumps({"cluster": {"worker": workers}, "task": TASK})
    with background(REAL, env={"TF_CONFIG": config}, stdout=subprocess.PIPE) as process:
        assert process.communicate()[0].strip() == "CollectiveAllReduceStrategy 1"


def test_gpus_are_described_as_far_as_they_are_known(monkeypatch):
    assert gpus() == []
    details = {"first": {"device_name": "A", "compute_capability": (8, 6)}, "second": {}}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(details))
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.get)
    assert gpus() == [("A", (8, 6)), ("", (0, 0))]


def test_any_strategy_but_the_default_shares_batches():
    assert not is_shared(get_strategy())
    assert is_shared(tf.distribute.MirroredStrategy(["CPU:0"]))
