"""Finds the records that cannot be used: the file, index and damage of each.

TensorFlow stops at the first one without naming its file or, if errors are ignored, silently drops
the rest of the file. So this module reads records one by one, either to name the culprit after a
failure, or to leave out exactly the damaged ones.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable

import tensorflow as tf

from pipelines.shards.records import BAD_CONTENT, BadRecord, Damage, RecordFiles


def open_without_damaged(pattern: str, open_source: Callable, limit: int):
    """The `ImageStream` or `TextStream` of a pattern without its damaged records.

    Args:
        open_source: makes the source from `RecordFiles`; may refuse the first record as a
            `BadRecord`.
        limit: how many records may be left out.

    Raises:
        ValueError: more are damaged.
    """
    records = RecordFiles.find(pattern, skip=True)
    while True:
        check_limit(records.damaged, limit)  # before every record is read
        try:
            source = open_source(records)
            break
        except BadRecord as error:
            if records.count == 1:
                raise
            records = records.without({0: error.reason})
    room = limit - _lost(records.damaged)
    reasons = dict(itertools.islice(_unusable(source), room + 1))
    records = records.without(reasons)
    check_limit(records.damaged, limit)
    return dataclasses.replace(source, records=records)


def check_limit(damaged: list[Damage], limit: int):
    """Refuses more damaged records than `limit`; names the first."""
    if (lost := _lost(damaged)) > limit:
        raise ValueError(
            f"{damaged[0]}; {lost} or more records are damaged, skip_damaged allows {limit}"
        )


def left_out(stream) -> list[Damage]:
    """The damaged records that a `JointStream`, or an object with its sources, leaves out."""
    sources = (stream.images, stream.image_validation, stream.texts, stream.text_validation)
    return [damage for source in sources if source for damage in source.records.damaged]


def first_damage(source) -> Damage | None:
    """The first damage in files of a source, which has left out none."""
    records = RecordFiles.find(source.records.pattern, skip=True)
    if records.damaged:
        return records.damaged[0]
    for number, reason in _unusable(dataclasses.replace(source, records=records)):
        return records.without({number: reason}).damaged[0]
    return None


def reason_of(error: tf.errors.OpError) -> str:
    """The message of an error in one line, without the names of operations."""
    asserted = re.search(r"assertion failed: \[(.*?)\] \[(.*?)\]", error.message, re.DOTALL)
    if asserted:
        return f"{asserted[1]}: {asserted[2]}"
    text = re.split(r"\[\[\{\{|\[Op:", error.message)[0]
    text = re.sub(r"\{\{.*?\}\} ?|.*Iterator::\S+ ", "", text).strip()
    return text.splitlines()[-1] if text else type(error).__name__


def _lost(damaged):
    return sum(damage.records for damage in damaged)


def _unusable(source):
    """Yields (index, reason) of the records that the source cannot decode."""
    records = iter(source.probes())
    for number in itertools.count():
        try:
            next(records)
        except StopIteration:
            return
        except tf.errors.InvalidArgumentError as error:
            yield number, reason_of(error)  # the dataset continues with the next record
        except tf.errors.DataLossError:  # it does not
            yield number, BAD_CONTENT
            records = iter(source.probes(number + 1))
