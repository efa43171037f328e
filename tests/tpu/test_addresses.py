"""A TPU that is not there is refused in one line, within seconds."""

import os

import pytest

from tests.tpu.refusals import refused
from tests.tpu.servers import vm_answers
from tpu import addresses

# --- servers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("closed", "UNAVAILABLE.*Connection refused"),
        ("dead", "DEADLINE_EXCEEDED"),
        ("silent", "DEADLINE_EXCEEDED"),
        ("http", "UNAVAILABLE"),
        ("other", "UNIMPLEMENTED"),
        ("plain", "without TPUs"),
    ],
)
def test_no_tpu_answers(places, monkeypatch, place, message):
    monkeypatch.setattr(addresses, "SERVER_SECONDS", 0.5)
    with pytest.raises(ValueError, match=f"grpc://{places[place]}.*{message}"):
        addresses.check_servers([places[place]])


@pytest.mark.parametrize("tpu, tpu_address", [("grpc://{},{}", ""), ("v4-16", "{},grpc://{}")])
def test_one_of_several_is_dead(places, tpu_hosts, monkeypatch, tpu, tpu_address):
    monkeypatch.setattr(addresses, "SERVER_SECONDS", 2)
    hosts = tpu_hosts[0], places["dead"]
    refused(tpu.format(*hosts), tpu_address.format(*hosts), f"grpc://{places['dead']}")


def test_unresolvable_host():
    refused("grpc://no-such-host.invalid:8470", message="no-such-host.invalid")


# --- Google Cloud --------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["silent", "dead", "http", "other", "closed"])
def test_no_metadata_server(places, monkeypatch, place):
    monkeypatch.setattr(addresses, "METADATA_SECONDS", 0.1)
    monkeypatch.setenv("GCE_METADATA_HOST", places[place])
    assert addresses.find_vm() == (None, [])


def test_usual_metadata_server(monkeypatch):
    """Whatever answers at the usual address here, it is no hang."""
    monkeypatch.delenv("GCE_METADATA_HOST")
    refused("v3-128", message="'v3-128'")


def test_not_a_tpu_vm(google):
    assert addresses.metadata("instance/zone") and addresses.find_vm() == (None, [])


def test_the_answer_of_another_cloud(google):
    google[None] = None  # answers without the header
    google.update(vm_answers("v3-8", "a"))
    assert addresses.find_vm() == (None, [])


# --- the kinds of --tpu --------------------------------------------------------------------------


def test_another_tpu(google):
    google.update(vm_answers("v3-8"))
    refused("v3-128", message="'v3-128'.* v3-8")


def test_a_slice_whose_servers_do_not_run(google):
    google.update(vm_answers("v3-32", *[f"no-such-host-{n}.invalid" for n in range(4)]))
    refused("v3-32", message="grpc://no-such-host-0.invalid:8470")


def test_a_name_that_tensorflow_cannot_look_up():
    os.environ["GCE_METADATA_IP"] = os.environ["GCE_METADATA_HOST"]  # TensorFlow's own variable
    try:
        refused("my-tpu", message="'my-tpu'")
    finally:
        del os.environ["GCE_METADATA_IP"]


def test_hosts_of_a_slice_are_counted(tpu_hosts):
    refused("v3-128", tpu_hosts[0], "'v3-128'.* 16 .* 1")
    refused("v3-8", ",".join(tpu_hosts), "'v3-8'.* 1 .* 2")


def test_chips_that_are_not_enough(chips, google):
    refused("local", message="'local'")
    chips(4)
    refused("v3-32", message="'v3-32'.*4 chips")
    google.update(vm_answers("v3-32", "a", "b", "c", "d"))
    refused("local", message="'local'.* 4 hosts.* v3-32")
