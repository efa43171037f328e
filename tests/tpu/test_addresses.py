"""The checks of a TPU's address: one line, within seconds."""

import socket
import time

import pytest

from tests.tpu.refusals import SECONDS, refused
from tests.tpu.servers import node_answers
from tpu import addresses

WAITING = ("dead", "silent")  # places where a limit is all that ends the wait

# --- servers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("closed", "Connection refused"),
        ("dead", "0.1 s"),
        ("silent", "DEADLINE_EXCEEDED"),
        ("http", "UNAVAILABLE"),
        ("other", "UNIMPLEMENTED"),
        ("plain", "CPU"),
    ],
)
@pytest.mark.parametrize(
    ("tpu", "tpu_address"), [("grpc://{}", ""), ("v3-128", "{}"), ("v3-8", "grpc://{}")]
)
def test_no_tpu_answers(places, monkeypatch, place, message, tpu, tpu_address):
    if place in WAITING:
        monkeypatch.setattr(addresses, "SERVER_SECONDS", 0.1)
    address = places[place]
    message = f"grpc://{address}.*{message}"
    refused(tpu.format(address), tpu_address.format(address), message)


def test_one_of_several_is_dead(places, tpu_hosts, monkeypatch):
    monkeypatch.setattr(addresses, "SERVER_SECONDS", 2)
    several = ",".join([*tpu_hosts, places["dead"]])
    refused(f"grpc://{several}", message=f"grpc://{places['dead']}")


@pytest.mark.slow
def test_limits_are_kept(places):
    """The limits that users meet: servers that are dead, lost and silent, all at the same time."""
    waiting = [places["dead"], places["silent"], "192.0.2.1:8470", "10.255.255.1:8470"]
    start = time.monotonic()
    checks = [addresses.in_background(addresses.check_server, address) for address in waiting]
    assert all(isinstance(check.exception(SECONDS), ValueError) for check in checks)
    assert time.monotonic() - start < 10


def test_unresolvable_host():
    refused("grpc://no-such-host.invalid:8470", message="no-such-host.invalid")
    refused(f"grpc://{'a' * 70}:8470", message="a{70}")


def test_name_resolution_that_hangs(monkeypatch):
    monkeypatch.setattr(addresses, "SERVER_SECONDS", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: time.sleep(60))
    refused("grpc://somewhere:8470", message="grpc://somewhere:8470")


# --- Google Cloud --------------------------------------------------------------------------------


@pytest.mark.parametrize("tpu", ["v3-128", "my-tpu"])
@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("silent", "0.1 s"),
        ("dead", "0.1 s"),
        ("http", "404"),
        ("other", "no answer"),
    ],
)
def test_no_metadata_server(places, monkeypatch, tpu, place, message):
    monkeypatch.setenv("GCE_METADATA_HOST", places[place])
    if place in WAITING:
        monkeypatch.setattr(addresses, "METADATA_SECONDS", 0.1)
    refused(tpu, message=f"'{tpu}'.*{places[place]}.*{message}")


def test_usual_metadata_server(monkeypatch):
    """Whatever answers at the usual address here, it is no hang."""
    monkeypatch.delenv("GCE_METADATA_HOST")
    refused("v3-128", message=r"'v3-128'.*169\.254\.169\.254")


@pytest.mark.parametrize(
    ("tpu", "answers", "message"),
    [
        ("v3-128", {}, "'v3-128'.*not a TPU VM"),
        ("my-tpu", {}, "'my-tpu'.*404.*my-project.*europe-west4-a"),
        ("my-tpu", {"/my-tpu": (403, "")}, "'my-tpu'.*403"),
        ("my-tpu", node_answers("v3-8", state="CREATING"), "'my-tpu'.*CREATING"),
        ("my-tpu", {"/token": (404, "")}, "'my-tpu'.*no service account"),
    ],
)
def test_google_cloud_has_no_such_tpu(google, tpu, answers, message):
    if "/token" in answers:
        google.pop("service-accounts/default/token")
    google.update(answers)
    refused(tpu, message=message)


def test_google_cloud_is_silent(google, places, monkeypatch):
    monkeypatch.setattr(addresses, "TPU_API", f"http://{places['silent']}/v2")
    with monkeypatch.context() as patch:
        patch.setattr(addresses, "NODE_SECONDS", 0.5)
        refused("my-tpu", message="'my-tpu'.*no answer")
    monkeypatch.setattr(addresses, "TPU_API", f"http://{places['closed']}/v2")
    refused("my-tpu", message="'my-tpu'.*Connection refused")
