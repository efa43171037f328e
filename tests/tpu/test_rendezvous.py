"""Machines of `TF_CONFIG` that wait for each other, in threads of this process."""

import concurrent.futures
import contextlib
import socket

import pytest

from tests.tpu.servers import free_port
from tpu import rendezvous


def free_addresses(count):
    with contextlib.ExitStack() as stack:
        return [f"127.0.0.1:{stack.enter_context(free_port())}" for _ in range(count)]


def wait(hosts, index, seconds=0.3):
    cluster = {"worker": hosts[1:], "chief": hosts[:1]}
    task = {"type": "worker", "index": index - 1} if index else {"type": "chief", "index": 0}
    rendezvous.wait_for_peers(cluster, task, seconds)


@pytest.mark.parametrize("late", [0, 1])
def test_all_go_on_together_and_leave_their_ports(late):
    hosts = free_addresses(3)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        early = [pool.submit(wait, hosts, index, 60) for index in range(3) if index != late]
        assert not concurrent.futures.wait(early, timeout=0.5).done
        wait(hosts, late, 60)
        for future in early:
            future.result(60)
    for host in hosts:
        socket.create_server(("", int(host.rpartition(":")[2]))).close()


def test_one_that_has_gone_is_waited_for_again():
    hosts = free_addresses(3)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(wait, hosts, 0, 60)
        with pytest.raises(ValueError, match="chief 0"):
            wait(hosts, 1, 1)
        second = pool.submit(wait, hosts, 2, 60)
        assert not concurrent.futures.wait([first, second], timeout=0.5).done
        wait(hosts, 1, 60)
        first.result(60), second.result(60)


@pytest.mark.parametrize(
    ("place", "reason"), [("closed", "Connection refused"), ("silent", "does not answer")]
)
def test_the_first_machine_does_not_come(places, place, reason, monkeypatch, capsys):
    monkeypatch.setattr(rendezvous, "_SAID_AFTER", 0)
    host = places[place]
    with pytest.raises(ValueError, match=f"^TF_CONFIG: chief 0 at {host}: .*{reason}"):
        wait([host, *free_addresses(1)], 1, 0.5)
    first = capsys.readouterr().err.splitlines()[0]
    assert f"chief 0 at {host}: " in first and reason in first


def test_another_machine_does_not_come():
    hosts = free_addresses(2)
    with pytest.raises(ValueError, match=f"^TF_CONFIG: worker 0 at {hosts[1]}"):
        wait(hosts, 0)


def test_an_address_that_is_taken(places):
    with pytest.raises(ValueError, match=f"TF_CONFIG: .*{places['silent']}"):
        wait([places["silent"], "127.0.0.1:1"], 0)
