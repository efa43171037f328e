"""Turns failures to read records into errors that name the file and what is wrong with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from pipelines.command_line import say
from pipelines.shards.records import first_damage, reason_of

if TYPE_CHECKING:
    from pipelines.joint_stream import JointStream

_ERRORS = (
    tf.errors.InvalidArgumentError,
    tf.errors.DataLossError,
    tf.errors.FailedPreconditionError,  # fewer records than the manifest says
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
)
_PLACES = ("IteratorGetNext", "ParseExample", "assertion failed")


def reading(stream: JointStream | Any) -> contextlib.AbstractContextManager[None]:
    """A context for what reads a stream's records, or those of an object with its sources.

    Raises:
        ValueError: a record cannot be read.
    """
    sources = (stream.images, stream.image_validation, stream.texts, stream.text_validation)
    damages = (first_damage(source) for source in sources if source is not None)
    return _reading(damages, ", or allow for damaged records with skip_damaged")


def reading_images(splits: Iterable[Any]) -> contextlib.AbstractContextManager[None]:
    """The same for `LabelledImages`, or their stores, among the splits of a task."""
    stores = (getattr(split, "store", split) for split in splits)
    return _reading(store.first_damage() for store in stores if hasattr(store, "first_damage"))


@contextlib.contextmanager
def _reading(damages: Iterator[object], more: str = "") -> Iterator[None]:
    """TensorFlow does not say which file it was reading, so `damages` read the records again."""
    try:
        yield
    except _ERRORS as error:
        if not any(place in error.message for place in _PLACES):
            raise
        say("a record cannot be read; looking for it")
        culprit = next(filter(None, damages), None) or reason_of(error)
        raise ValueError(f"{culprit}; write the file again{more}") from error
