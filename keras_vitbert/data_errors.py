"""Failures while records are read, told to the user: which file, and what is wrong with it."""

import contextlib
import sys

import tensorflow as tf

from keras_vitbert.command_line import UserError
from pipelines.shards.damage import first_damage, reason_of

_ERRORS = (tf.errors.InvalidArgumentError, tf.errors.DataLossError)


@contextlib.contextmanager
def reading(stream):
    """Turns failures of a stream's records inside the block into `UserError`; others pass.

    TensorFlow does not say which file it was reading, so the records are looked at once more.

    Args:
        stream: `pipelines.joint_stream.JointStream`, or what has its four sources.
    """
    try:
        yield
    except _ERRORS as error:
        places = ("IteratorGetNext", "ParseExample", "assertion failed")
        if not any(place in error.message for place in places):
            raise
        print("a record cannot be used; looking for it", file=sys.stderr, flush=True)
        raise UserError(
            f"{_culprit(stream) or reason_of(error)}; write the file again, or go on without what "
            "is lost by --max_bad_records=N"
        ) from error


def _culprit(stream):
    """The first damage in any source, or None."""
    for source in (stream.images, stream.image_validation, stream.texts, stream.text_validation):
        damage = first_damage(source) if source is not None else None
        if damage is not None:
            return damage
    return None
