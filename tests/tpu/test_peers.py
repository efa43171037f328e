"""Machines of `TF_CONFIG` that wait for each other, in threads of this process."""

import concurrent.futures
import contextlib
import socket
import threading

import pytest

from tests.tpu.servers import dead_address, free_port, local
from tpu import peers


def free_addresses(count):
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [local(each) for each in sockets]


def wait(hosts, index, seconds=0.3):
    cluster = {"chief": hosts[:1], "worker": hosts[1:]}
    task = {"type": "worker", "index": index - 1} if index else {"type": "chief", "index": 0}
    peers.wait_for_peers(cluster, task, seconds)


def test_all_go_on_together_and_leave_their_ports():
    hosts = free_addresses(3)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = [pool.submit(wait, hosts, index, 60) for index in (0, 2)]
        assert not concurrent.futures.wait(first, timeout=0.5).done
        wait(hosts, 1, 60)
        for future in first:
            future.result(60)
    for host in hosts:
        socket.create_server(("", int(host.rpartition(":")[2]))).close()


def test_one_machine_waits_for_nobody():
    peers.wait_for_peers({"worker": ["a:1"]}, {"type": "worker", "index": "0"})


@contextlib.contextmanager
def answering(content):
    """A server that answers whoever connects, and yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(100)
                        connection.sendall(content)

        threading.Thread(target=serve, daemon=True).start()
        yield local(server)
        server.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def silent():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield local(server)


@contextlib.contextmanager
def refusing():
    with free_port() as port:
        yield f"127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (refusing(), "Connection refused"),
        (silent(), "no answer"),
        (dead_address(), "no answer"),
        (answering(b"HTTP/1.1 400\r\n\r\n"), "something else answers"),
        (answering(b"\x00\x00\x12\x04"), "a TensorFlow server answers"),
        (contextlib.nullcontext("no-such-host.invalid:1"), "no-such-host.invalid"),
    ],
)
def test_a_peer_that_does_not_come(place, reason, monkeypatch, capsys):
    monkeypatch.setattr(peers, "_SAID_AFTER", 0)
    monkeypatch.setattr(peers, "_ANSWER_SECONDS", 0.2)
    with place as host:
        own = free_addresses(1)[0]
        with pytest.raises(ValueError, match=f"^TF_CONFIG: worker 0 at {host}: .*{reason}"):
            wait([own, host], 0, 1.5)  # also on a busy machine more than one greeting
    first = capsys.readouterr().err.splitlines()[0]
    assert f"worker 0 at {host}: " in first and reason in first


def test_an_address_that_is_taken():
    with silent() as own, pytest.raises(ValueError, match=f"TF_CONFIG: .*{own}"):
        wait([own, "127.0.0.1:1"], 0)
