"""Waits until all machines of `TF_CONFIG` have started, before TensorFlow does so without end.

TensorFlow's servers wait for each other silently and ignore even SIGTERM. So the others first
connect to the first machine, which lets all of them go on once it has heard from each.
"""

import contextlib
import select
import socket
import time
from collections.abc import Iterator
from typing import Any

from pipelines.command_line import say

SECONDS = 300  # to wait for all others
_SAID_AFTER, _SAID_EVERY = 10, 60  # seconds of waiting
_ANSWER_SECONDS = 2
_PAUSE = 0.2
_GREETING = "keras_vitbert "
_GO_ON = b"go on\n"


def wait_for_peers(
    cluster: dict[str, list[str]], task: dict[str, Any], seconds: float = SECONDS
) -> None:
    """Returns when all machines have started; refuses to wait longer than some seconds.

    `cluster` and `task` are those of a checked `TF_CONFIG`: the `host:port` of each job's machines,
    and the `type` and `index` of this process.
    """
    # "chief" before "worker"
    names = {host: f"{job} {n}" for job in sorted(cluster) for n, host in enumerate(cluster[job])}
    first, *others = names
    own = cluster[task["type"]][int(task["index"])]
    began, next_words = time.monotonic(), _SAID_AFTER
    for host, reason in _gather(own, others) if own == first else _join(own, first):
        passed = time.monotonic() - began
        if passed > seconds:
            raise ValueError(
                f"TF_CONFIG: {names[host]} at {host}: {reason}, for {seconds:g} s; start the same "
                "command there"
            )
        if passed > next_words:
            say(f"waiting for {names[host]} at {host}: {reason}; {passed:.0f} s")
            next_words += _SAID_EVERY


def _gather(own: str, others: list[str]) -> Iterator[tuple[str, str]]:
    """The first machine's part: yields who is missing, and why, until all have connected."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(socket.create_server(("", int(own.rpartition(":")[2]))))
        except OSError as error:
            raise ValueError(
                f"TF_CONFIG: this machine cannot join the workers as {own} ({error.strerror}); is "
                "its port in use, by another run?"
            ) from error
        present: dict[socket.socket, str] = {}  # the host at the other end of each connection
        while missing := set(others) - set(present.values()):
            yield min(missing, key=others.index), "it has not connected"
            for ready in select.select([server, *present], [], [], _PAUSE)[0]:
                if ready is not server:  # it was closed at the other end
                    del present[ready]
                    continue
                connection = stack.enter_context(server.accept()[0])
                connection.settimeout(_ANSWER_SECONDS)
                with contextlib.suppress(OSError):
                    greeting = connection.recv(300).decode(errors="replace").rstrip("\n")
                    host = greeting.removeprefix(_GREETING)
                    if host != greeting and host in others:
                        present[connection] = host
        for connection in present:
            with contextlib.suppress(OSError):
                connection.sendall(_GO_ON)


def _join(own: str, first: str) -> Iterator[tuple[str, str]]:
    """The others' part: yields what they wait for, until the first machine lets them go on."""
    name, _, port = first.rpartition(":")
    while True:
        try:
            with socket.create_connection((name, int(port)), _ANSWER_SECONDS) as connection:
                connection.sendall(f"{_GREETING}{own}\n".encode())
                while not select.select([connection], [], [], _PAUSE)[0]:
                    yield first, "it waits for other machines, or does not answer"
                if connection.recv(300) == _GO_ON:
                    return
                reason = "something else answers"
        except (OSError, UnicodeError) as error:
            reason = f"no connection ({getattr(error, 'strerror', None) or error})"
        yield first, reason
        time.sleep(_PAUSE)
