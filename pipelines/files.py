"""Finds and reads files, local or `gs://`, and writes them whole or not at all."""

import contextlib
import json
import os
import re
import stat
import uuid
from collections.abc import Iterable, Iterator
from typing import IO, Any

from pipelines.command_line import one_line


@contextlib.contextmanager
def written_whole(path: str) -> Iterator[Any]:
    """Opens a binary file under a temporary name; renames it if the block ends without an error."""
    import tensorflow as tf

    temporary = f"{path}.tmp-{uuid.uuid4().hex}"
    try:
        with open_binary(temporary, "wb") as file:
            file.write(b"")  # otherwise a `GFile` without content would not exist
            yield file
        tf.io.gfile.rename(temporary, path, overwrite=True)
    except BaseException as error:
        if tf.io.gfile.exists(temporary):
            tf.io.gfile.remove(temporary)
        if isinstance(error, OSError) and error.errno and not error.filename:  # from a write
            raise OSError(error.errno, error.strerror, path) from error
        raise


def write_atomically(path: str, content: str | bytes) -> None:
    """Writes a file, local or `gs://`, as a whole or not at all; text in UTF-8."""
    with written_whole(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def make_folder(path: str) -> None:
    """Makes a folder, local or `gs://`, or checks that an existing one can be written to."""
    import tensorflow as tf

    probe = os.path.join(path, f".writable-{uuid.uuid4().hex}")  # unique to this process
    try:
        tf.io.gfile.makedirs(path)
        write_atomically(probe, "")
        tf.io.gfile.remove(probe)
    except (OSError, tf.errors.OpError) as error:
        raise ValueError(f"{path}: cannot be written to ({one_line(error)})") from error


def check_output_file(path: str, inputs: Iterable[str | None] = (), run: str = "") -> None:
    """Refuses an output file that cannot be written, before hours of work; makes its folder."""
    import tensorflow as tf

    check_no_input(path, inputs, run)
    if not os.path.basename(path) or tf.io.gfile.isdir(path):
        raise ValueError(f"{path}: is a folder; give the name of a file")
    make_folder(os.path.dirname(path) or ".")


def check_no_input(path: str, inputs: Iterable[str | None], run: str = "") -> None:
    """Refuses an output file that is an input of the command, or lies in an input folder.

    An input that does not exist is another name, such as that of a model. `run` is the folder of
    the command's own run, which need not exist.
    """
    folder, name = os.path.split(path)
    # A link is replaced itself, but who names one means the file behind it.
    places = os.path.join(os.path.realpath(folder), name), os.path.realpath(path)
    there = [one for one in inputs if one and ("://" in one or os.path.exists(one))]
    for one in [*there, *([run] if run else [])]:
        real = os.path.realpath(one)
        if any(place == real or place.startswith(os.path.join(real, "")) for place in places):
            raise ValueError(f"{path}: would overwrite {one}, or write in it")


def check_writable(folder: str) -> None:
    """Refuses a local folder that cannot be made or written to; makes nothing."""
    there = os.path.abspath(folder)
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there) or not os.access(there, os.W_OK):
        raise ValueError(f"{folder}: cannot be written to ({there})")


def walk(folder: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walks through a folder, local or `gs://`, as `os.walk` does, following links.

    A link to a folder that the walk is in is left out: it has no end. What is removed from the list
    of folders is not entered.
    """
    if "://" in folder:
        import tensorflow as tf

        return tf.io.gfile.walk(folder)
    return _walk(folder, ())


def _walk(folder: str, around: tuple[str, ...]) -> Iterator[tuple[str, list[str], list[str]]]:
    """`walk` in a local folder; `around` are the real paths of the folders around it."""

    def refuse(error: OSError) -> None:
        raise error  # `os.walk` would leave the folder out

    around = (*around, os.path.realpath(folder))
    _, folders, files = next(os.walk(folder, onerror=refuse))
    paths = {name: os.path.join(folder, name) for name in folders}
    folders = [name for name in folders if os.path.realpath(paths[name]) not in around]
    yield folder, folders, files
    for name in folders:
        yield from _walk(paths[name], around)


def open_binary(path: str, mode: str = "rb") -> Any:
    """Opens a binary file, or a `tf.io.gfile.GFile`, whose errors are `tf.errors.OpError`."""
    if "://" not in path:
        if mode == "rb":
            require_end(path)
        return open(path, mode)  # `GFile` is slower for small reads: it reads half a MiB each time
    import tensorflow as tf

    return tf.io.gfile.GFile(path, mode)


def require_end(path: str) -> None:
    """Refuses a pipe or a device, on which TensorFlow would wait; the path need not exist."""
    if "://" not in path and os.path.exists(path):
        kind = os.stat(path).st_mode
        if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind) or stat.S_ISSOCK(kind):
            raise ValueError(f"{path}: is a pipe or a device, which may have no end")


@contextlib.contextmanager
def reading(path: str | os.PathLike) -> Iterator[tuple[Any, int]]:
    """Opens a binary file, local or `gs://`, for reading; yields it and its size in bytes."""
    with open_binary(os.fspath(path)) as file:
        file.seek(0, os.SEEK_END)
        size = file.tell()
        file.seek(0)
        yield file, size


def json_object(text: str | bytes) -> dict:
    """Reads a JSON object."""
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content


def take_lock(file: IO) -> bool:
    """Takes the system's lock on an open local file, until it is closed; False if it is taken."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def find_files(patterns: str) -> dict[str, int]:
    """The sizes in bytes of the files of comma-separated patterns, local or `gs://`.

    They come pattern after pattern. Within each, `articles2` comes before `articles10`.
    """
    import tensorflow as tf

    sizes = {}
    for pattern in patterns.split(","):
        try:
            paths = sorted(tf.io.gfile.glob(pattern), key=natural)
        except tf.errors.NotFoundError:  # a folder of the pattern
            paths = []
        stats = {path: tf.io.gfile.stat(path) for path in paths}
        files = {path: stat.length for path, stat in stats.items() if not stat.is_directory}
        if not files:
            raise ValueError(f"no file matches {pattern}")
        for path in files:
            require_end(path)
        sizes |= files
    return sizes


def natural(path: str) -> list[str | int]:
    """Sort key for natural order: `articles2` comes before `articles10`."""
    # Odd places hold digits. `²` is not among them, although `isdigit` accepts it.
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d+)", path))]


def printable(name: str) -> str:
    """The name of a file, of `os.fsdecode`, with bytes that are not UTF-8 escaped."""
    return os.fsencode(name).decode(errors="backslashreplace")
