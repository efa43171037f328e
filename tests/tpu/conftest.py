"""Fixtures of the TPU's tests: servers that are TPUs, Google Cloud, or neither."""

import concurrent.futures
import contextlib
import http.server
import os
import pathlib
import socket
import subprocess
import sys
import threading

import pytest

from tpu import addresses

ROOT = pathlib.Path(__file__).parents[2]


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
    """Google Cloud: a dict of answers, (status, text) by the end of the path; else 404."""
    answers = {
        "project/project-id": (200, "my-project"),
        "instance/zone": (200, "projects/123/zones/europe-west4-a"),
        "service-accounts/default/token": (200, '{"access_token": "secret"}'),
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            metadata = self.path.startswith("/computeMetadata/v1/")
            key = "Metadata-Flavor" if metadata else "Authorization"
            allowed = self.headers.get(key) == ("Google" if metadata else "Bearer secret")
            ends = [end for end in answers if self.path.endswith(end)]
            status, text = answers[ends[0]] if ends else (404, "")
            self.send_response(status if allowed else 403)
            if metadata:
                self.send_header("Metadata-Flavor", "Google")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args):
            pass

    with serving(Handler) as address:
        monkeypatch.setenv("GCE_METADATA_HOST", address)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(addresses, "TPU_API", f"http://{address}/v2")
        yield answers


@pytest.fixture(scope="session")
def places():
    """Addresses where no TPU is, by what is there instead."""
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        plain = enter(background(PLAIN_SERVER, stdout=subprocess.PIPE))
        silent = enter(socket.create_server(("127.0.0.1", 0)))
        found = {
            "silent": local(silent),
            "dead": enter(dead_address()),
            "closed": f"127.0.0.1:{enter(free_port())}",
            "http": enter(serving(QuietHandler)),
            "other": enter(grpc_server("/other.Service/Other", b"")),
            "garbled": enter(grpc_server(GET_STATUS, b"\xff\xff\xff")),
        }
        found["plain"] = plain.stdout.readline().strip().removeprefix("grpc://")
        yield found


@pytest.fixture(scope="session")
def tpu_hosts():
    """Addresses of two servers that say they have TPUs, one of them not initialised."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(grpc_server(GET_STATUS, status_of(*devices)))
            for devices in (["CPU", "TPU_SYSTEM"], ["CPU", "TPU_SYSTEM", "TPU", "TPU"])
        ]


GET_STATUS = "/tensorflow.WorkerService/GetStatus"
PLAIN_SERVER = """
import sys, tensorflow as tf
server = tf.distribute.Server({"worker": ["localhost:0"]}, job_name="worker", task_index=0)
print(server.target, flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def background(code, **options):
    """A Python process that ends with the block."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["PYTHONPATH"] = str(ROOT)
    for name in ("TF_CONFIG", "GCE_METADATA_HOST"):
        environment.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**environment, **options.pop("env", {})},
        **options,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def status_of(*device_types):
    """`GetStatusResponse` of a server with these devices, by TensorFlow's own classes."""
    from tensorflow.core.framework import device_attributes_pb2

    devices = [
        device_attributes_pb2.DeviceAttributes(
            name=f"/job:worker/replica:0/task:0/device:{kind}:{number}",
            device_type=kind,
            memory_limit=-1,
            incarnation=2**63 + number,
            locality=device_attributes_pb2.DeviceLocality(bus_id=1),
            physical_device_desc=f"device {number}",
        ).SerializeToString()
        for number, kind in enumerate(device_types)
    ]
    assert all(len(device) < 128 for device in devices)  # one byte says how long
    return b"".join(b"\x0a" + bytes([len(device)]) + device for device in devices)


@contextlib.contextmanager
def grpc_server(method, answer):
    """Answers one method, always the same; yields `host:port`."""
    import grpc

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            if details.method == method:
                return grpc.unary_unary_rpc_method_handler(lambda request, context: answer)

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1), handlers=[Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serving(handler):
    """An HTTP server in a thread; yields `host:port`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@contextlib.contextmanager
def free_port():
    """A port of 127.0.0.1 that refuses connections: bound, so that nobody takes it, but deaf."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        yield deaf.getsockname()[1]


@contextlib.contextmanager
def dead_address():
    """Packets to it are lost, whatever the network here: its queue of connections is full."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield local(full)


def local(server):
    return f"127.0.0.1:{server.getsockname()[1]}"
