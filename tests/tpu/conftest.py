"""Fixtures of the TPU's tests: a machine without TPUs, chips, Google Cloud, and other servers."""

import contextlib
import http.server
import socket

import pytest

from tests.tpu.servers import free_port, grpc_server, local, serving
from tpu import addresses


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """A machine without TPU chips, outside Google Cloud, that trains alone."""
    for name in ("TF_CONFIG", "TPU_LOAD_LIBRARY"):
        monkeypatch.delenv(name, raising=False)
    with free_port() as port:
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{port}")
        monkeypatch.setattr(addresses, "CHIPS", (f"{tmp_path}/accel*", f"{tmp_path}/vfio/[0-9]*"))
        yield


@pytest.fixture
def chips(tmp_path):
    """`chips(count)` puts TPU chips into this machine."""

    def put(count):
        for number in range(count):
            (tmp_path / f"accel{number}").touch()

    return put


@pytest.fixture
def google(monkeypatch):
    """Google Cloud: a dict of answers by the end of the path; else 404.

    With an entry None it is another cloud.
    """
    answers = {"instance/zone": "projects/123/zones/europe-west4-a"}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.removeprefix("/computeMetadata/v1/")
            ends = [end for end in answers if end and path.endswith(end)]
            status = 200 if ends else 404
            self.send_response(status if self.headers["Metadata-Flavor"] == "Google" else 403)
            if None not in answers:
                self.send_header("Metadata-Flavor", "Google")
            self.end_headers()
            self.wfile.write(answers[ends[0]].encode() if ends else b"")

        def log_message(self, *args):
            pass

    with serving(Handler) as address:
        monkeypatch.setenv("GCE_METADATA_HOST", address)
        yield answers


@pytest.fixture(scope="session")
def places():
    """Addresses where no TPU is, by what is there instead."""
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        yield {
            "silent": local(silent),
            "closed": f"127.0.0.1:{stack.enter_context(free_port())}",
            "plain": stack.enter_context(grpc_server("CPU")),
        }


@pytest.fixture(scope="session")
def tpu_hosts():
    """Addresses of two servers that say they have TPUs, one of them not initialised."""
    with grpc_server("CPU", "TPU_SYSTEM") as one, grpc_server("CPU", "TPU_SYSTEM", "TPU") as other:
        yield [one, other]
