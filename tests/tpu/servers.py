"""Servers on this machine that are TPUs or not, and Google Cloud's answers about TPUs."""

import concurrent.futures
import contextlib
import http.server
import pathlib
import socket
import threading

ROOT = pathlib.Path(__file__).parents[2]


@contextlib.contextmanager
def grpc_server(*devices):
    """Answers what devices it has, as TensorFlow's servers do; yields `host:port`."""
    import grpc

    names = [f"/job:worker/replica:0/task:0/device:{kind}:{n}" for n, kind in enumerate(devices)]

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            if details.method == "/tensorflow.WorkerService/GetStatus":
                answer = "\n".join(names).encode()
                return grpc.unary_unary_rpc_method_handler(lambda request, context: answer)

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1), handlers=[Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


@contextlib.contextmanager
def serving(handler):
    """An HTTP server in a thread; yields `host:port`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield local(server.socket)
    server.shutdown()
    server.server_close()


@contextlib.contextmanager
def free_port():
    """A port of 127.0.0.1 that refuses connections: bound, so that nobody takes it, but deaf."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        yield deaf.getsockname()[1]


def local(server):
    return f"127.0.0.1:{server.getsockname()[1]}"


def vm_answers(accelerator_type, *hosts):
    """Google Cloud's answers to a host of a TPU, for the fixture `google`."""
    return {
        "attributes/accelerator-type": accelerator_type,
        "attributes/worker-network-endpoints": ",".join(f"unknown:unknown:{h}" for h in hosts),
    }
