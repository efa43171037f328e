"""Failures while records are read, told to the user: which file, and what is wrong with it."""

import contextlib
import sys

import tensorflow as tf

from pipelines.command_line import UserError
from pipelines.shards.damage import first_damage, reason_of

_ERRORS = (
    tf.errors.InvalidArgumentError,
    tf.errors.DataLossError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
)


def reading(stream):
    """Turns failures of a stream's records inside the block into `UserError`; others pass.

    Args:
        stream: `pipelines.joint_stream.JointStream`, or what has its four sources.
    """
    return _reading(
        lambda: _culprit(stream),
        "write the file again, or go on without what is lost by --max_bad_records=N",
    )


def reading_images(splits):
    """The same for images of a task.

    Args:
        splits: iterable of `pipelines.tasks.labelled_images.LabelledImages`; others are passed
            over.
    """
    stores = [split.store for split in splits if hasattr(split, "store")]
    return _reading(
        lambda: next(filter(None, (store.first_damage() for store in stores)), None),
        "write the file again, or remove it and use another --output_dir",
    )


@contextlib.contextmanager
def _reading(find_culprit, mend):
    """Turns failures of records into `UserError`.

    TensorFlow does not say which file it was reading, so the records are looked at once more.
    """
    try:
        yield
    except _ERRORS as error:
        places = ("IteratorGetNext", "ParseExample", "assertion failed")
        if not any(place in error.message for place in places):
            raise
        print("a record cannot be used; looking for it", file=sys.stderr, flush=True)
        raise UserError(f"{find_culprit() or reason_of(error)}; {mend}") from error


def _culprit(stream):
    """The first damage in any source, or None."""
    for source in (stream.images, stream.image_validation, stream.texts, stream.text_validation):
        damage = first_damage(source) if source is not None else None
        if damage is not None:
            return damage
    return None
