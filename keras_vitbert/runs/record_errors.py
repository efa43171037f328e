"""Turns failures to read records into errors that name the file and what is wrong with it."""

import contextlib

import tensorflow as tf

from pipelines.command_line import say
from pipelines.shards.records import first_damage, reason_of

_ERRORS = (
    tf.errors.InvalidArgumentError,
    tf.errors.DataLossError,
    tf.errors.FailedPreconditionError,  # fewer records than the manifest says
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
)


def reading(stream):
    """A context that turns failures to read a stream's records into `ValueError`.

    Args:
        stream: `pipelines.joint_stream.JointStream`, or an object with its four sources.
    """
    sources = (stream.images, stream.image_validation, stream.texts, stream.text_validation)
    return _reading(
        (first_damage(source) for source in sources if source is not None),
        "write the file again, or allow for damaged records with skip_damaged",
    )


def reading_images(splits):
    """The same for the images of a task.

    Args:
        splits: iterable of `pipelines.tasks.labelled_images.LabelledImages`, or of their stores;
            other objects are ignored.
    """
    stores = (getattr(split, "store", split) for split in splits)
    return _reading(
        (store.first_damage() for store in stores if hasattr(store, "first_damage")),
        "write the file again, or remove it and begin in another folder",
    )


@contextlib.contextmanager
def _reading(damages, fix):
    """TensorFlow does not say which file it was reading, so the records are read once more.

    `damages` is an iterator that reads them and yields each source's first damage, or None.
    """
    try:
        yield
    except _ERRORS as error:
        places = ("IteratorGetNext", "ParseExample", "assertion failed")
        if not any(place in error.message for place in places):
            raise
        say("a record cannot be read; looking for it")
        culprit = next(filter(None, damages), None) or reason_of(error)
        raise ValueError(f"{culprit}; {fix}") from error
