"""Small files, local or `gs://`, that are whole or not there."""

import csv
import io
import os
import uuid

from pipelines.command_line import UserError


def write_atomically(path, text):
    """Writes a text file under another name and renames it."""
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
    """Makes a folder that can be written to.

    Raises:
        UserError: it cannot.
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


def csv_text(rows):
    """CSV of a list of dicts; the columns are those of all rows, in order of appearance."""
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
