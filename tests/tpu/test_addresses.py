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
    assert all(isinstance(check.exception(SECONDS), ValueError) for check in checks)
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


# --- Google Cloud --------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("tpu", "answers", "message"),
    [
        ("v3-128", {}, "^--tpu=v3-128: no such TPU found: .*this machine is not a TPU VM; no TPU"),
        (
            "my-tpu",
            {},
            "^--tpu=my-tpu: there is no TPU of this name in project my-project, zone eu",
        ),
        (
            "my-tpu",
            node_answers("v3-8", state="CREATING"),
            "^--tpu=my-tpu: it is CREATING; wait until",
        ),
        ("my-tpu", {"/my-tpu": (403, "")}, "^--tpu=my-tpu: Google Cloud answered 403.*role"),
        ("my-tpu", {"/my-tpu": (200, "<html>")}, "^--tpu=my-tpu: cannot be looked up.*unreadable"),
        ("my-tpu", {"/my-tpu": (200, "[]")}, "^--tpu=my-tpu: cannot be looked up by name: Google"),
        ("my-tpu", {"/token": (404, "")}, "^--tpu=my-tpu: cannot .* has no service account"),
        ("my-tpu", {"/token": (200, "{}")}, "^--tpu=my-tpu: cannot .*: unreadable answer"),
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
        refused("my-tpu", message="^--tpu=my-tpu: cannot be looked up by name: .*no answer")
    monkeypatch.setattr(addresses, "TPU_API", f"http://{places['closed']}/v2")
    refused("my-tpu", message="^--tpu=my-tpu: cannot be .*: no answer \\(Connection refused\\)")
