"""Waits until all machines of `TF_CONFIG` have started, before TensorFlow does so without end.

TensorFlow's servers wait for each other silently and ignore even SIGTERM. So each process first
listens at its own address and greets all others. It continues once it has had an answer from all
of them and has answered all of them. Then each knows that the others continue, too.
"""

import contextlib
import socket
import threading
import time

from pipelines.command_line import say
from tpu.addresses import in_background

SECONDS = 300  # to wait for all others
_SAID_AFTER, _SAID_EVERY = 10, 60  # seconds of waiting
_ANSWER_SECONDS = 2
_PAUSE = 0.2
_GREETING = "keras_vitbert "
_HTTP2 = b"\x00\x00"  # how the answer of TensorFlow's own server begins
_TENSORFLOW = "a TensorFlow server answers"


def wait_for_peers(cluster, task, seconds=SECONDS):
    """Returns when all other machines wait for this one.

    Args:
        cluster: dict of job to list of `host:port`, as in a checked `TF_CONFIG`.
        task: dict of `type` and `index`, this process's.
        seconds: float, the longest wait.

    Raises:
        ValueError: one of them has not started in time, or this machine cannot listen at its
            address.
    """
    own = cluster[task["type"]][int(task["index"])]
    names = {host: f"{job} {n}" for job in cluster for n, host in enumerate(cluster[job])}
    peers = [host for host in names if host != own]
    if not peers:
        return
    began, next_words, missing = time.monotonic(), _SAID_AFTER, {}
    with _answering(own, peers) as greeted:
        answered = set()
        while True:
            for host in peers:
                if host in answered and host in greeted:
                    missing.pop(host, None)
                    continue
                missing[host] = _greet(host, own)
                # A peer that has continued runs TensorFlow's server; it greeted us before that.
                if missing[host] in (None, _TENSORFLOW if host in greeted else None):
                    answered.add(host)
                    missing[host] = "it has not sent a greeting"
            if not missing:
                return
            host, reason = next(iter(missing.items()))
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            passed = time.monotonic() - began
            if passed > seconds:
                raise ValueError(
                    f"TF_CONFIG: {names[host]} at {host}{more}: {reason}, for {seconds:g} s; start "
                    "the same command there"
                )
            if passed > next_words:
                say(f"waiting for {names[host]} at {host}{more}: {reason}; {passed:.0f} s")
                next_words += _SAID_EVERY
            time.sleep(_PAUSE)


def _greet(host, own):
    """None if a peer answers, else why not."""
    name, _, port = host.rpartition(":")
    try:
        # Looking up a name may take forever.
        connection = in_background(socket.create_connection, (name, int(port)), _ANSWER_SECONDS)
        with connection.result(_ANSWER_SECONDS) as connection:
            connection.sendall(f"{_GREETING}{own}\n".encode())
            answer = connection.makefile("rb").readline(300)
    except TimeoutError:
        return "no answer"
    except (socket.gaierror, UnicodeError):
        return f"the host name {name} cannot be resolved"
    except OSError as error:
        return f"no connection ({error.strerror or error})"
    if answer.startswith(_HTTP2):
        return _TENSORFLOW
    return None if answer == f"{_GREETING}{host}\n".encode() else "something else answers"


@contextlib.contextmanager
def _answering(own, peers):
    """Answers peers at this process's address in the block; yields the set of those answered."""
    greeted = set()
    try:
        server = socket.create_server(("", int(own.rpartition(":")[2])))
    except OSError as error:
        raise ValueError(
            f"TF_CONFIG: this machine cannot join the workers as {own} "
            f"({error.strerror}); is its port in use, by another run?"
        ) from error

    def answer():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:  # closed
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(_ANSWER_SECONDS)
                line = connection.makefile("rb").readline(300).decode(errors="replace")
                host = line.removeprefix(_GREETING).rstrip("\n")
                if line.startswith(_GREETING) and host in peers:
                    connection.sendall(f"{_GREETING}{own}\n".encode())
                    greeted.add(host)

    threading.Thread(target=answer, daemon=True).start()
    try:
        yield greeted
    finally:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)  # wakes the thread
        server.close()
