"""One process at a time trains in a run's folder.

The file `LOCK` names that process. In a local folder the operating system holds the lock (`flock`,
also over NFS) and releases it however the process ends. On `gs://` the process renews the file
every `RENEWAL` seconds, and counts as dead after `STALE` seconds without a renewal. Two processes
that start there within the same second may both get the lock.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator

import tensorflow as tf

from pipelines.command_line import say
from pipelines.files import take_lock, write_atomically

LOCK = "LOCK"
RENEWAL = 30  # seconds
STALE = 300


class Locked(ValueError):
    """Another process holds the lock."""

    def __init__(self, path: str, content: str):
        holder = content.partition(",")[0] or "another process"
        super().__init__(f"{os.path.dirname(path)}: {holder} is training there")


@contextlib.contextmanager
def held(folder: str, writes: bool = True) -> Iterator[None]:
    """Holds the lock of a folder while the block runs.

    Args:
        folder: the run's folder, which exists; local or `gs://`.
        writes: whether this process takes the lock; of those that share a run, one does.

    Raises:
        Locked: another process holds it.
    """
    lock = contextlib.nullcontext
    if writes:
        lock = _renewed if "://" in folder else _locked
    with lock(os.path.join(folder, LOCK)):
        yield


@contextlib.contextmanager
def _locked(path):
    """Holds the operating system's lock on a file."""
    with open(path, "a+") as file:
        try:
            if not take_lock(file):
                file.seek(0)
                raise Locked(path, file.read())
        except OSError as error:  # the file system has no locks
            say(f"{path}: cannot be locked ({error}); do not run the same command twice at once")
        if not os.fstat(file.fileno()).st_nlink:  # its holder has just removed it
            raise Locked(path, "")
        file.truncate(0)
        with contextlib.suppress(OSError):  # on a full disk nobody is named
            os.write(file.fileno(), _holder().encode())
        try:
            yield
        finally:
            os.unlink(path)


@contextlib.contextmanager
def _renewed(path):
    """Holds a file that says when it was last renewed."""
    with contextlib.suppress(tf.errors.NotFoundError), tf.io.gfile.GFile(path) as file:
        content = file.read()
        if time.time() - _renewed_at(content) < STALE:
            raise Locked(path, content)
    write_atomically(path, _holder())
    ended = threading.Event()

    def renew():
        while not ended.wait(RENEWAL):
            with contextlib.suppress(OSError, tf.errors.OpError):  # the next renewal may succeed
                write_atomically(path, _holder())

    renewal = threading.Thread(target=renew, name="lock", daemon=True)
    renewal.start()
    try:
        yield
    finally:
        ended.set()
        renewal.join()
        with contextlib.suppress(tf.errors.OpError):
            tf.io.gfile.remove(path)


def _holder():
    return f"process {os.getpid()} on {socket.gethostname()}, {time.time()}"


def _renewed_at(content):
    try:
        return float(content.rpartition(", ")[2])
    except ValueError:  # damaged: nobody holds it
        return 0.0
