"""Small files, local or `gs://`, that are whole or not there."""

import os
import uuid


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

    from pipelines.command_line import UserError

    try:
        tf.io.gfile.makedirs(path)
        write_atomically(os.path.join(path, ".writable"), "")
        tf.io.gfile.remove(os.path.join(path, ".writable"))
    except tf.errors.OpError as error:
        raise UserError(
            f"--{flag}={path}: cannot be written to ({error.message}); give another folder"
        ) from error
