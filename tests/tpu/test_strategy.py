"""The devices of a run: the strategy for a TPU, for several machines, for one."""

import json

import pytest
import tensorflow as tf

from tests.tpu.servers import vm_answers
from tpu import addresses
from tpu.devices import is_shared
from tpu.strategy import get_strategy


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
        (f"grpc://{first},{second}", "", f"grpc://{first},grpc://{second}"),
        ("v3-8", first, f"grpc://{first}"),
        ("v4-16", f"grpc://{first},grpc://{second}", f"grpc://{first},grpc://{second}"),
    ):
        assert get_strategy(tpu, tpu_address).num_replicas_in_sync == 8
        assert tensorflow["address"] == expected
    assert tensorflow["steps"] == ["connect", "initialize", "strategy"] * 3


def test_chips_in_this_machine_are_local(tensorflow, chips):
    chips(4)
    for tpu in ("local", "v3-8"):
        get_strategy(tpu)
        assert tensorflow["address"] == "local"


def test_a_tpu_vm_knows_the_hosts_of_its_slice(tensorflow, google, monkeypatch):
    google.update(vm_answers("v3-8", "10.164.0.7"))
    get_strategy("v3-8")
    assert tensorflow["address"] == "local"
    google.update(vm_answers("v4-16", "10.164.0.7", "10.164.0.8"))
    asked = []
    monkeypatch.setattr(addresses, "check_servers", asked.extend)
    get_strategy("v4-16")
    assert asked == ["10.164.0.7:8470", "10.164.0.8:8470"]
    assert tensorflow["address"] == "grpc://10.164.0.7:8470,grpc://10.164.0.8:8470"


def test_a_name_is_looked_up_by_tensorflow(tensorflow, tpu_hosts, places):
    tensorflow["hosts"] = tpu_hosts
    get_strategy("my-tpu")
    assert tensorflow["address"] == "my-tpu"
    tensorflow["hosts"] = [places["closed"]]
    with pytest.raises(ValueError, match=f"'my-tpu'.*{places['closed']}"):
        get_strategy("my-tpu")


def test_another_number_of_replicas_than_the_slice_has_is_refused(tensorflow, tpu_hosts):
    tensorflow["replicas"] = 4
    with pytest.raises(ValueError, match="'v3-8'.* 8 replicas.* 4 "):
        get_strategy("v3-8", tpu_hosts[0])


def test_errors_of_tensorflow_say_what_is_needed(tensorflow, chips, monkeypatch):
    chips(4)

    def fail(resolver):
        raise tf.errors.NotFoundError(None, None, "TPUs not found\nin the cluster")

    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", fail)
    with pytest.raises(ValueError, match="'local'.*TPUs not found.*tensorflow-tpu"):
        get_strategy("local")


@pytest.mark.parametrize(("gpus", "way"), [([], "RING"), (["GPU:0"], "AUTO")])
def test_several_machines_reduce_over_rings_on_cpus(monkeypatch, gpus, way):
    task = {"type": "worker", "index": 0}
    config = {"cluster": {"worker": ["a:1", "b:1"]}, "task": task}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    monkeypatch.setattr(tf.config, "list_logical_devices", None)  # would be too early
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", dict)
    assert get_strategy()["communication_options"].implementation.name == way


@pytest.mark.parametrize("gpus", [1, 2])
def test_one_machine_mirrors_over_its_gpus(monkeypatch, gpus):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["GPU"] * gpus)
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda: "mirrored")
    assert get_strategy() == ("mirrored" if gpus > 1 else tf.distribute.get_strategy())


def test_any_strategy_but_the_default_shares_batches():
    assert not is_shared(get_strategy())
    assert is_shared(tf.distribute.MirroredStrategy(["CPU:0"]))
