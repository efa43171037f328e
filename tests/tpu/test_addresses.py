"""A TPU that is not there is refused in one line, within seconds."""

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
        ("plain", "without TPUs"),
    ],
)
def test_an_address_where_no_tpu_answers_is_refused(places, monkeypatch, place, message):
    monkeypatch.setattr(addresses, "SERVER_SECONDS", 0.5)
    with pytest.raises(ValueError, match=f"grpc://{places[place]}.*{message}"):
        addresses.check_servers([places[place]])


@pytest.mark.parametrize("tpu, tpu_address", [("grpc://{},{}", ""), ("v4-16", "{},grpc://{}")])
def test_one_dead_host_of_several_is_named(places, tpu_hosts, monkeypatch, tpu, tpu_address):
    monkeypatch.setattr(addresses, "SERVER_SECONDS", 2)
    hosts = tpu_hosts[0], places["dead"]
    refused(tpu.format(*hosts), tpu_address.format(*hosts), f"grpc://{places['dead']}")


# --- Google Cloud --------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["silent", "http", "closed"])
def test_without_a_metadata_server_there_is_no_tpu_vm(places, monkeypatch, place):
    monkeypatch.setattr(addresses, "METADATA_SECONDS", 0.1)
    monkeypatch.setenv("GCE_METADATA_HOST", places[place])
    assert addresses.find_vm() == (None, [])


def test_the_answer_of_another_cloud_is_ignored(google):
    google[None] = None  # answers without the header
    google.update(vm_answers("v3-8", "a"))
    assert addresses.find_vm() == (None, [])


# --- the kinds of --tpu --------------------------------------------------------------------------


def test_the_type_of_another_tpu_is_refused(google):
    google.update(vm_answers("v3-8"))
    refused("v3-128", message="'v3-128'.* v3-8")


def test_a_slice_whose_servers_do_not_run_is_refused(google):
    google.update(vm_answers("v3-32", *[f"no-such-host-{n}.invalid" for n in range(4)]))
    refused("v3-32", message="grpc://no-such-host-0.invalid:8470")


def test_hosts_of_a_slice_are_counted(tpu_hosts):
    refused("v3-128", tpu_hosts[0], "'v3-128'.* 16 .* 1")
    refused("v3-8", ",".join(tpu_hosts), "'v3-8'.* 1 .* 2")


def test_chips_that_are_not_enough_are_refused(chips, google):
    refused("local", message="'local'")
    chips(4)
    refused("v3-32", message="'v3-32'.*4 chips")
    google.update(vm_answers("v3-32", "a", "b", "c", "d"))
    refused("local", message="'local'.* 4 hosts.* v3-32")
