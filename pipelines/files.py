"""Finds and reads files, local or `gs://`, and writes them whole or not at all."""

import contextlib
import json
import os
import re
import stat
import uuid

from pipelines.command_line import one_line


@contextlib.contextmanager
def written_whole(path):
    """Opens a file under a temporary name, and renames it if the block ends without an error.

    Args:
        path: str, local or `gs://`; its folder must exist.

    Yields:
        A binary file, see `open_binary`.
    """
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


def make_folder(path: str):
    """Makes a folder, local or `gs://`, or checks that an existing one can be written to.

    Raises:
        ValueError: it cannot be written to.
    """
    import tensorflow as tf

    probe = os.path.join(path, f".writable-{uuid.uuid4().hex}")  # unique to this process
    try:
        tf.io.gfile.makedirs(path)
        write_atomically(probe, "")
        tf.io.gfile.remove(probe)
    except (OSError, tf.errors.OpError) as error:
        raise ValueError(f"{path}: cannot be written to ({one_line(error)})") from error


def check_output_file(path: str, inputs=(), run: str = ""):
    """Refuses an output file that cannot be written, before hours of work; makes its folder.

    Args:
        path: local or `gs://`.
        inputs, run: as in `check_no_input`.

    Raises:
        ValueError: its folder cannot be made or written to, it is a folder itself, or it would
            overwrite an input.
    """
    import tensorflow as tf

    check_no_input(path, inputs, run)
    if not os.path.basename(path) or tf.io.gfile.isdir(path):
        raise ValueError(f"{path}: is a folder; give the name of a file")
    make_folder(os.path.dirname(path) or ".")


def check_no_input(path: str, inputs, run: str = ""):
    """Refuses an output file that is an input of the command, or lies in an input folder.

    Args:
        path: local or `gs://`.
        inputs: files and folders; what does not exist is another name, such as that of a model, and
            is left out.
        run: the folder of the command's own run, which need not exist; none if empty.

    Raises:
        ValueError: it is or does.
    """
    folder, name = os.path.split(path)
    # A link is replaced itself, but who names one means the file behind it.
    places = os.path.join(os.path.realpath(folder), name), os.path.realpath(path)
    there = [one for one in inputs if one and ("://" in one or os.path.exists(one))]
    for one in [*there, *([run] if run else [])]:
        real = os.path.realpath(one)
        if any(place == real or place.startswith(os.path.join(real, "")) for place in places):
            raise ValueError(f"{path}: would overwrite {one}, or write in it")


def check_writable(folder: str):
    """Refuses a local folder that cannot be made or written to; makes nothing."""
    there = os.path.abspath(folder)
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there) or not os.access(there, os.W_OK):
        raise ValueError(f"{folder}: cannot be written to ({there})")


def walk(folder: str):
    """Walks through a folder, local or `gs://`, as `os.walk` does, following links.

    A link to a folder that the walk is in is left out: it has no end.

    Yields:
        (path of a folder, list of the names of its folders, list of the names of its files). What
        is removed from the list of folders is not entered.

    Raises:
        OSError: a local folder cannot be listed.
    """
    if "://" in folder:
        import tensorflow as tf

        return tf.io.gfile.walk(folder)
    return _walk(folder, ())


def _walk(folder, around):
    """`walk` in a local folder; `around` are the real paths of the folders around it."""

    def refuse(error):
        raise error  # `os.walk` would leave the folder out

    around = (*around, os.path.realpath(folder))
    _, folders, files = next(os.walk(folder, onerror=refuse))
    paths = {name: os.path.join(folder, name) for name in folders}
    folders = [name for name in folders if os.path.realpath(paths[name]) not in around]
    yield folder, folders, files
    for name in folders:
        yield from _walk(paths[name], around)


def open_binary(path: str, mode: str = "rb"):
    """Opens a file, local or `gs://`, to read (`rb`) or to write it (`wb`).

    Returns:
        A binary file, or a `tf.io.gfile.GFile`, whose errors are `tf.errors.OpError`.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is a pipe or a device to be read.
    """
    if "://" not in path:
        if mode == "rb":
            require_end(path)
        return open(path, mode)  # `GFile` is slower for small reads: it reads half a MiB each time
    import tensorflow as tf

    return tf.io.gfile.GFile(path, mode)


def require_end(path: str):
    """Refuses a pipe or a device, on which TensorFlow would wait; the path need not exist."""
    if "://" not in path and os.path.exists(path):
        kind = os.stat(path).st_mode
        if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind) or stat.S_ISSOCK(kind):
            raise ValueError(f"{path}: is a pipe or a device, which may have no end")


@contextlib.contextmanager
def reading(path: str):
    """Opens a file, local or `gs://`, for reading, while the block runs.

    Yields:
        (binary file at its beginning, its size in bytes).
    """
    with open_binary(os.fspath(path)) as file:
        file.seek(0, os.SEEK_END)
        size = file.tell()
        file.seek(0)
        yield file, size


def json_object(text: str | bytes) -> dict:
    """Reads a JSON object.

    Raises:
        ValueError: the text is not one, or is nested too deeply to be read.
    """
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content


def take_lock(file) -> bool:
    """Takes the system's lock on an open local file; it ends with the file or the process.

    False if another process holds it.
    """
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def find_files(patterns: str) -> dict[str, int]:
    """Finds files and their sizes in bytes.

    Args:
        patterns: comma-separated paths or glob patterns, local or `gs://`.

    Returns:
        The sizes, pattern after pattern. Within each, `articles2` comes before `articles10`.

    Raises:
        ValueError: a pattern matches no file.
    """
    import tensorflow as tf

    sizes = {}
    for pattern in patterns.split(","):
        try:
            paths = sorted(tf.io.gfile.glob(pattern), key=natural)
        except tf.errors.NotFoundError:  # a folder of the pattern
            paths = []
        stats = {path: tf.io.gfile.stat(path) for path in paths}
        found = {path: stat.length for path, stat in stats.items() if not stat.is_directory}
        if not found:
            raise ValueError(f"no file matches {pattern}")
        for path in found:
            require_end(path)
        sizes |= found
    return sizes


def natural(path: str) -> list:
    """Sort key for natural order: `articles2` comes before `articles10`."""
    # Odd places hold digits. `²` is not among them, although `isdigit` accepts it.
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d+)", path))]


def printable(name: str) -> str:
    """The name of a file, of `os.fsdecode`, with bytes that are not UTF-8 escaped."""
    return os.fsencode(name).decode(errors="backslashreplace")
