"""One process at a time trains in a run's folder.

The operating system holds the lock on the file `LOCK` (`flock`, also over NFS) and releases it
however the process ends; the file names that process. Nothing locks a folder on `gs://`.
"""

import contextlib
import os
import socket
from collections.abc import Iterator

from pipelines.command_line import say
from pipelines.files import take_lock

LOCK = "LOCK"


class Locked(ValueError):
    """Another process holds the lock."""

    def __init__(self, path: str, holder: str):
        holder = holder or "another process"
        super().__init__(f"{os.path.dirname(path)}: {holder} is training there")


@contextlib.contextmanager
def held(folder: str, writes: bool = True) -> Iterator[None]:
    """Holds the lock of an existing folder while the block runs; one of the run's processes does.

    Raises:
        Locked: another process holds it.
    """
    if not writes or "://" in folder:
        yield
        return
    path = os.path.join(folder, LOCK)
    with open(path, "a+") as file:
        is_ours = True
        try:
            is_ours = take_lock(file)
        except OSError as error:  # the file system has no locks
            say(f"{path}: cannot be locked ({error}); do not run the same command twice at once")
        if not is_ours or not os.fstat(file.fileno()).st_nlink:  # its holder may have removed it
            file.seek(0)
            raise Locked(path, file.read())
        file.truncate(0)
        with contextlib.suppress(OSError):  # on a full disk nobody is named
            os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}".encode())
        try:
            yield
        finally:
            os.unlink(path)
