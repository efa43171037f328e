"""Small files, local or `gs://`, that are written whole or not at all."""

import csv
import io
import os
import uuid

from pipelines.command_line import UserError


def write_atomically(path, text):
    """Writes a text file under another name and renames it.

    Args:
        path: str, local or `gs://`.
        text: str.
    """
    import tensorflow as tf

    temporary = f"{path}.tmp-{uuid.uuid4().hex}"
    try:
        with tf.io.gfile.GFile(temporary, "w") as file:
            file.write(text)
        tf.io.gfile.rename(temporary, path, overwrite=True)
    except BaseException:
        if tf.io.gfile.exists(temporary):
            tf.io.gfile.remove(temporary)
        raise


def make_folder(path, flag):
    """Makes a folder, or checks that an existing one can be written to.

    Args:
        path: str, local or `gs://`.
        flag: str, the flag that holds it, for messages.

    Raises:
        UserError: the folder cannot be written to.
    """
    import tensorflow as tf

    try:
        tf.io.gfile.makedirs(path)
        write_atomically(os.path.join(path, ".writable"), "")
        tf.io.gfile.remove(os.path.join(path, ".writable"))
    except tf.errors.OpError as error:
        raise UserError(
            f"--{flag}={path}: cannot be written to ({error.message}); give another folder"
        ) from error


def open_binary(path):
    """Opens a file for reading.

    Args:
        path: str, local or `gs://`.

    Returns:
        A binary file, or a `tf.io.gfile.GFile`, whose errors are `tf.errors.OpError`.
    """
    if "://" not in path:
        return open(path, "rb")  # TensorFlow would read half a MiB for every small part
    import tensorflow as tf

    return tf.io.gfile.GFile(path, "rb")


def csv_text(rows):
    """Rows as CSV.

    Args:
        rows: list of dicts.

    Returns:
        str; the columns are those of all rows, in order of appearance.
    """
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
