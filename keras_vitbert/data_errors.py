"""Failures while records are read, told to the user: which file, and what is wrong with it."""

import contextlib
import re
import sys

import tensorflow as tf

from keras_vitbert.command_line import UserError

_ERRORS = (tf.errors.InvalidArgumentError, tf.errors.DataLossError)


@contextlib.contextmanager
def reading(stream):
    """Turns failures of a stream's records inside the block into `UserError`; others pass.

    TensorFlow does not say which file it was reading, so the records are read once more, in order.

    Args:
        stream: `pipelines.joint_stream.JointStream`, or what has its four sources.
    """
    try:
        yield
    except _ERRORS as error:
        asserted = re.search(r"assertion failed: \[(.*?)\] \[(.*?)\]", error.message, re.DOTALL)
        if asserted:
            text = f"{asserted[1]}: {asserted[2]}; write the files anew"
        elif "IteratorGetNext" in error.message or "ParseExample" in error.message:
            print("a record cannot be read; looking for it", file=sys.stderr, flush=True)
            text = f"{_culprit(stream)} cannot be read ({_reason(error)}); write the file anew"
        else:
            raise
        raise UserError(text) from error


def _culprit(stream):
    """The first record that fails, by its file; all sources if each of them can be read."""
    sources = (stream.images, stream.image_validation, stream.texts, stream.text_validation)
    sources = [source for source in sources if source is not None]
    for source in sources:
        number = 0
        try:
            for _ in source.examples():
                number += 1
        except _ERRORS:
            file, number = source.records.locate(number)
            return f"{file}: record {number}"
    return f"a record of {', '.join(source.records.pattern for source in sources)}"


def _reason(error):
    """What is wrong, without the places in the program that TensorFlow lists around it."""
    text = re.split(r"\[\[\{\{|\[Op:", error.message)[0].strip().splitlines()[-1]
    return re.sub(r"\{\{.*?\}\} ?|.*Iterator::\S+ ", "", text)
