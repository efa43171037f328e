"""The values that pictures show, in RUN/inspection/KIND-STEP.npz: figures need no model."""

import io
import os
import re

import numpy as np
import tensorflow as tf

from pipelines.command_line import UserError, one_line

FOLDER = "inspection"


def write_values(folder, kind, step, **arrays):
    """Writes the arrays of a step atomically; the same arrays give the same bytes.

    Args:
        folder: `RunFolder`; if it does not write, nothing happens.
        kind: str, such as `activations`.
        step: int, which the file contains too.
        arrays: NumPy arrays by name.
    """
    if folder.writes:
        content = io.BytesIO()
        np.savez(content, step=np.int64(step), **arrays)
        tf.io.gfile.makedirs(os.path.join(folder.path, FOLDER))
        folder.write(f"{FOLDER}/{kind}-{step:08d}.npz", content.getvalue())


def read_values(path, kind, read=lambda arrays: arrays):
    """Reads what `write_values` has written.

    Args:
        path: str, a run's folder.
        kind: str, such as `activations`.
        read: callable of a dict of arrays; what it raises means that the file is damaged.

    Returns:
        dict of step to what `read` returns, the arrays by default, the steps ascending; empty if
        there are no files.

    Raises:
        UserError: a file is damaged.
    """
    values = {}
    folder = os.path.join(path, FOLDER)
    if not tf.io.gfile.isdir(folder):
        return values
    for name in sorted(tf.io.gfile.listdir(folder)):
        found = re.fullmatch(rf"{re.escape(kind)}-(\d+)\.npz", name)
        if not found:
            continue
        try:
            with tf.io.gfile.GFile(os.path.join(folder, name), "rb") as file:
                arrays = dict(np.load(io.BytesIO(file.read())))
            if arrays["step"] != int(found[1]):
                raise ValueError(f"it is of step {arrays['step']}")
            values[int(found[1])] = read(arrays)
        except Exception as error:  # damaged zip files and arrays fail in many ways
            reason = one_line(error)[:160]
            raise UserError(
                f"{os.path.join(folder, name)} is damaged ({reason}); remove it"
            ) from error
    return values
