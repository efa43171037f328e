"""A TPU that is not there is refused, within seconds; the command's line is one of bad input."""

import pytest

from tests.tpu.servers import vm_answers
from tpu import addresses
from tpu.strategy import get_strategy


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("closed", "UNAVAILABLE.*Connection refused"),
        ("silent", "DEADLINE_EXCEEDED"),
        ("plain", "without TPUs"),
    ],
)
def test_of_several_hosts_one_where_no_tpu_answers_is_named(
    places, tpu_hosts, monkeypatch, place, message
):
    monkeypatch.setattr(addresses, "SERVER_SECONDS", 2)
    with pytest.raises(ValueError, match=f"grpc://{places[place]}.*{message}"):
        get_strategy(f"grpc://{tpu_hosts[0]},{places[place]}")


@pytest.mark.parametrize("place", ["silent", "closed"])
def test_without_a_metadata_server_there_is_no_tpu_vm(places, monkeypatch, place):
    monkeypatch.setattr(addresses, "METADATA_SECONDS", 0.1)
    monkeypatch.setenv("GCE_METADATA_HOST", places[place])
    assert addresses.find_vm() == (None, [])


def test_the_answer_of_another_cloud_is_ignored(google):
    google[None] = None  # answers without the header
    google.update(vm_answers("v3-8", "a"))
    assert addresses.find_vm() == (None, [])


NO_HOSTS = [f"no-such-host-{number}.invalid" for number in range(4)]


@pytest.mark.parametrize(
    ("tpu", "tpu_address", "vm", "count", "message"),
    [
        ("v3-128", "", ["v3-8"], 0, "'v3-128'.* v3-8"),
        ("v3-32", "", ["v3-32", *NO_HOSTS], 0, "grpc://no-such-host-0.invalid:8470"),
        ("v3-32", "", [], 4, "'v3-32'.*4 chips"),
        ("local", "", [], 0, "'local'"),
        ("local", "", ["v3-32", *NO_HOSTS], 4, "'local'.* 4 hosts.* v3-32"),
        ("v3-128", "h:1", [], 0, "'v3-128'.* 16 .* 1"),
    ],
)
def test_another_tpu_than_there_is_is_refused(google, chips, tpu, tpu_address, vm, count, message):
    chips(count)
    google.update(vm_answers(*vm) if vm else {})
    with pytest.raises(ValueError, match=message):
        get_strategy(tpu, tpu_address)
