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


def read_values(path, kind, steps=None):
    """Reads what `write_values` has written.

    Args:
        path: str, a run's folder.
        kind: str, such as `activations`.
        steps: list of int, some of `stored_steps`; all by default.

    Returns:
        dict of step to a dict of arrays, the steps ascending; empty if there are no files.

    Raises:
        ValueError: a file is damaged.
    """
    values = {}
    for step in stored_steps(path, kind) if steps is None else steps:
        name = os.path.join(path, FOLDER, f"{kind}-{step:08d}.npz")
        try:
            with tf.io.gfile.GFile(name, "rb") as file:
                values[step] = dict(np.load(io.BytesIO(file.read())))
        except Exception as error:  # damaged zip files fail in many ways
            raise ValueError(f"{name}: cannot be read ({one_line(error)[:160]})") from error
    return values
