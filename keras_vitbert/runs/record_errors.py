"""Turns failures to read records into errors that name the file and what is wrong with it."""

import contextlib

import tensorflow as tf

from pipelines.command_line import UserError, say
from pipelines.shards.damage import first_damage, reason_of

_ERRORS = (
    tf.errors.InvalidArgumentError,
    tf.errors.DataLossError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
)


def reading(stream):
    """A context that turns failures to read a stream's records into `UserError`.

    Args:
        stream: `pipelines.joint_stream.JointStream`, or an object with its four sources.
    """
    return _reading(
        lambda: _culprit(stream),
        "write the file again, or skip damaged records with --max_bad_records=N",
    )


def reading_images(splits):
    """The same for the images of a task.

    Args:
        splits: iterable of `pipelines.tasks.labelled_images.LabelledImages`; other objects are
            ignored.
    """
    stores = [split.store for split in splits if hasattr(split, "store")]
    return _reading(
        lambda: next(filter(None, (store.first_damage() for store in stores)), None),
        "write the file again, or remove it and use another --output_dir",
    )


@contextlib.contextmanager
def _reading(find_culprit, fix):
    """TensorFlow does not say which file it was reading, so the records are read once more."""
    try:
        yield
    except _ERRORS as error:
        places = ("IteratorGetNext", "ParseExample", "assertion failed")
        if not any(place in error.message for place in places):
            raise
        say("a record cannot be read; looking for it")
        raise UserError(f"{find_culprit() or reason_of(error)}; {fix}") from error


def _culprit(stream):
    """The first damage in any source, or None."""
    for source in (stream.images, stream.image_validation, stream.texts, stream.text_validation):
        damage = first_damage(source) if source is not None else None
        if damage is not None:
            return damage
    return None
