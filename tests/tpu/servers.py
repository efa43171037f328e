"""Servers on this machine that are TPUs or not, and Google Cloud's answers about TPUs."""

import concurrent.futures
import contextlib
import http.server
import os
import pathlib
import socket
import subprocess
import sys
import threading

ROOT = pathlib.Path(__file__).parents[2]
GET_STATUS = "/tensorflow.WorkerService/GetStatus"


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


def vm_answers(accelerator_type, *hosts):
    """Google Cloud's answers to a host of a TPU, for the fixture `google`."""
    endpoints = ",".join(f"unknown:unknown:{host}" for host in hosts)
    return {
        "attributes/accelerator-type": (200, accelerator_type),
        "attributes/worker-network-endpoints": (200, endpoints),
    }
