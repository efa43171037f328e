"""Finds the records that cannot be used: the file, index and damage of each.

TensorFlow stops at the first one without naming its file or, if errors are ignored, silently drops
the rest of the file. So this module reads records one by one, either to name the culprit after a
failure, or to leave out exactly the damaged ones.
"""

import dataclasses
import itertools
import re

import tensorflow as tf

from pipelines.shards.record_scan import Damage


def without_damaged(source, limit: int):
    """The same `ImageStream` or `TextStream` without its damaged records, at most `limit` of them.

    Its `records` must have been found with `salvage`.

    Raises:
        ValueError: more are damaged.
    """
    check_limit(source.records.damaged, limit)  # before every record is read
    reasons = {}
    lost = sum(damage.records for damage in source.records.damaged)
    for number, reason in _unusable(source):
        reasons[number] = reason
        if lost + len(reasons) > limit:
            break
    records = source.records.without(reasons)
    check_limit(records.damaged, limit)
    return dataclasses.replace(source, records=records)


def check_limit(damaged: list[Damage], limit: int):
    """Refuses more damaged records than `limit`; names the first."""
    lost = sum(damage.records for damage in damaged)
    if lost > limit:
        raise ValueError(
            f"{damaged[0]}; {lost} or more records are damaged, max_bad_records allows {limit}"
        )


def left_out(stream) -> list[Damage]:
    """The damaged records that a `JointStream`, or an object with its sources, leaves out."""
    sources = (stream.images, stream.image_validation, stream.texts, stream.text_validation)
    return [damage for source in sources if source for damage in source.records.damaged]


def first_damage(source) -> Damage | None:
    """The first damage in files of a source that were not found with `salvage`."""
    records = type(source.records).find(source.records.pattern, salvage=True)
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
            yield number, "its content does not match its checksum"
            records = iter(source.probes(number + 1))
