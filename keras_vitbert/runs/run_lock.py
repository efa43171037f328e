"""One process at a time trains in a run's folder.

The file `LOCK` names that process. In a local folder the operating system holds the lock (`flock`,
also over NFS) and releases it however the process ends. On `gs://` the process renews the file
every `RENEWAL` seconds, and counts as dead after `STALE` seconds without a renewal. Two processes
that start there within the same second may both get the lock.
"""

import contextlib
import json
import os
import socket
import threading
import time

import tensorflow as tf

from pipelines.command_line import say
from pipelines.files import take_lock, write_atomically

LOCK = "LOCK"
RENEWAL = 30  # seconds
STALE = 300


class Locked(ValueError):
    """Another process holds the lock."""


@contextlib.contextmanager
def held(folder, writes=True):
    """Holds the lock of a folder while the block runs.

    Args:
        folder: str, the run's folder, which exists; local or `gs://`.
        writes: bool, whether this process takes the lock; of those that share a run, one does.

    Raises:
        Locked: another process holds it.
    """
    if writes:
        with (_renewed if "://" in folder else _locked)(os.path.join(folder, LOCK)):
            yield
    else:
        yield


@contextlib.contextmanager
def _locked(path):
    """Holds the operating system's lock on a file."""
    file = _lock(path)
    while not _is_there(file, path):  # its holder has just removed it
        file.close()
        file = _lock(path)
    with file:
        try:
            file.truncate(0)
            _name_holder(file, path)
            yield
        finally:
            os.unlink(path)


def _name_holder(file, path):
    try:
        os.write(file.fileno(), json.dumps(_holder()).encode())
    except OSError as error:  # the disk is full
        raise OSError(error.errno, error.strerror, path) from error


def _lock(path):
    file = open(path, "a+")
    try:
        if not take_lock(file):
            with file:
                file.seek(0)
                raise _refusal(path, file.read())
    except OSError as error:  # the file system has no locks
        say(f"{path}: cannot be locked ({error}); do not run the same command twice at once")
    return file


def _is_there(file, path):
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _renewed(path):
    """Holds a file that says when it was last renewed."""
    _require_stale(path)
    write_atomically(path, json.dumps(_holder()))
    ended = threading.Event()

    def renew():
        while not ended.wait(RENEWAL):
            with contextlib.suppress(OSError, tf.errors.OpError):  # the next renewal may succeed
                write_atomically(path, json.dumps(_holder()))

    renewal = threading.Thread(target=renew, name="lock", daemon=True)
    renewal.start()
    try:
        yield
    finally:
        ended.set()
        renewal.join()
        with contextlib.suppress(tf.errors.OpError):
            tf.io.gfile.remove(path)


def _require_stale(path):
    """Refuses a file that was renewed a short time ago."""
    with contextlib.suppress(tf.errors.NotFoundError), tf.io.gfile.GFile(path) as file:
        content, renewed = file.read(), 0.0
        with contextlib.suppress(ValueError, KeyError, TypeError):  # damaged: nobody holds it
            renewed = float(json.loads(content)["renewed"])
        if time.time() - renewed < STALE:
            raise _refusal(path, content)


def _holder():
    return {"host": socket.gethostname(), "process": os.getpid(), "renewed": time.time()}


def _refusal(path, content):
    try:
        holder = json.loads(content)
        who = f"process {holder['process']} on {holder['host']}"
    except (ValueError, KeyError, TypeError):  # the holder has just begun to write
        who = "another process"
    return Locked(
        f"{os.path.dirname(path)}: {who} is training there; wait for its end, stop it, or use "
        "another folder"
    )
