"""The message for a TPU that does not exist."""

import contextlib
import io
import re
import time

from keras_vitbert import pretrain
from pipelines import command_line
from tests.said import without_status

SECONDS = 15  # the longest that a user may wait for an answer


def refused(tpu, tpu_address="", message=""):
    """Asserts that the command ends with status 2 and one line, in time."""
    argv = ["--config=sample"]  # which has data
    argv += [] if tpu is None else [f"--tpu={tpu}"]
    argv += [f"--tpu_address={tpu_address}"] if tpu_address else []
    start, errors = time.monotonic(), io.StringIO()
    with contextlib.redirect_stderr(errors):
        status = command_line.run(pretrain.main, argv)
    assert status == command_line.EXIT_BAD_INPUT, status
    assert time.monotonic() - start < SECONDS
    [line] = without_status(errors.getvalue())
    text = line.removeprefix("error: ")
    assert re.search(message, text), text
    assert text.isprintable() and len(text) < 600, text
    return text
