"""SHA-256 of files, and of all files of a folder."""

import hashlib
import os

from pipelines.files import reading, write_atomically

SUMS = "sha256sums.txt"
_SAMPLED_BYTES = 1 << 16


def sampled_digest(path: str) -> str:
    """The SHA-256 of a file's size and of its first and last 64 KiB: quick for any size."""
    with reading(path) as (file, size):
        digest = hashlib.sha256(f"{size}\n".encode())
        digest.update(file.read(_SAMPLED_BYTES))
        file.seek(max(size - _SAMPLED_BYTES, 0))
        digest.update(file.read(_SAMPLED_BYTES))
    return digest.hexdigest()


def whole_digest(path: str) -> tuple[str, int]:
    """The SHA-256 and the size in bytes of a file."""
    digest = hashlib.sha256()
    with reading(path) as (file, size):
        while data := file.read(1 << 24):
            digest.update(data)
    return digest.hexdigest(), size


def write_sums(folder: str) -> None:
    """Writes the digests of all files below a local folder in `sha256sum`'s format."""
    names = [
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, _, files in os.walk(folder)
        for name in files
    ]
    lines = (f"{whole_digest(os.path.join(folder, name))[0]}  {name}\n" for name in sorted(names))
    write_atomically(os.path.join(folder, SUMS), "".join(lines))


def check_sums(folder: str | os.PathLike) -> None:
    """Compares the files of a folder with its `sha256sums.txt`, if there is one."""
    import tensorflow as tf

    path = os.path.join(folder, SUMS)
    if not tf.io.gfile.exists(path):
        return
    with reading(path) as (file, _):
        lines = file.read().decode(errors="replace").splitlines()
    for line in lines:
        digest, _, name = line.partition("  ")
        if not name or whole_digest(os.path.join(folder, name))[0] != digest:
            raise ValueError(
                f"{folder}: {name or 'a file'} is not what {SUMS} says; write the folder again, or "
                f"remove {SUMS} if you changed it"
            )
