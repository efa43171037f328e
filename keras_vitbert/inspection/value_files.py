"""The values that pictures show, in RUN/inspection/KIND-STEP.npz: figures need no model."""

import io
import os
import re

import numpy as np
import tensorflow as tf

from pipelines.command_line import one_line

FOLDER = "inspection"


def write_values(folder, kind, step, **arrays):
    """Writes the arrays of a step atomically; the same arrays give the same bytes.

    Args:
        folder: `RunFolder`; if it does not write, nothing happens.
        kind: str, such as `activations`.
        step: int, which is stored in the file too.
        arrays: NumPy arrays by name.
    """
    if folder.writes:
        content = io.BytesIO()
        np.savez(content, step=np.int64(step), **arrays)
        tf.io.gfile.makedirs(os.path.join(folder.path, FOLDER))
        folder.write(f"{FOLDER}/{kind}-{step:08d}.npz", content.getvalue())


def stored_steps(path, kind):
    """The steps for which `write_values` has written values.

    Args:
        path: str, a run's folder.
        kind: str, such as `activations`.

    Returns:
        list of int, ascending; empty if there are none.
    """
    folder = os.path.join(path, FOLDER)
    names = tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else []
    found = (re.fullmatch(rf"{re.escape(kind)}-(\d{{8,}})\.npz", name) for name in names)
    return sorted(int(match[1]) for match in found if match)


def read_values(path, kind, read=lambda arrays: arrays, steps=None):
    """Reads what `write_values` has written.

    Args:
        path: str, a run's folder.
        kind: str, such as `activations`.
        read: callable of a dict of arrays; what it raises means that the file is damaged.
        steps: list of int, some of `stored_steps`; all by default.

    Returns:
        dict of step to what `read` returns, the arrays by default, the steps ascending; empty if
        there are no files.

    Raises:
        ValueError: a file is damaged.
    """
    values = {}
    for step in stored_steps(path, kind) if steps is None else steps:
        name = os.path.join(path, FOLDER, f"{kind}-{step:08d}.npz")
        try:
            with tf.io.gfile.GFile(name, "rb") as file:
                arrays = dict(np.load(io.BytesIO(file.read())))
            if arrays["step"] != step:
                raise ValueError(f"it is of step {arrays['step']}")
            values[step] = read(arrays)
        except Exception as error:  # damaged zip files and arrays fail in many ways
            reason = one_line(error)[:160]
            raise ValueError(f"{name} is damaged ({reason}); remove it") from error
    return values
