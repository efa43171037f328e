"""Finds the records that cannot be used: the file, index and damage of each.

TensorFlow stops at the first one without naming its file or, if errors are ignored, silently drops
the rest of the file. So this module reads records one by one, either to name the culprit after a
failure, or to leave out exactly the damaged ones.
"""

import dataclasses
import itertools
import re

import tensorflow as tf

# TensorFlow 2.19 says no more than that a field cannot be parsed.
_OTHER_COUNT = re.compile(r"Key: (\S+)\.  Can't parse serialized Example(: Some|\.)")


def without_damaged(source, limit):
    """The same source without its damaged records.

    Args:
        source: `ImageStream` or `TextStream`, its `records` found with `salvage`.
        limit: int, how many may be lost.

    Returns:
        `ImageStream` or `TextStream`.

    Raises:
        ValueError: more are damaged.
    """
    reasons = {}
    lost = sum(damage.records for damage in source.records.damaged)
    for number, reason in _unusable(source):
        reasons[number] = reason
        if lost + len(reasons) > limit:
            break
    records = source.records.without(reasons)
    check_limit(records.damaged, limit)
    return dataclasses.replace(source, records=records)


def check_limit(damaged, limit):
    """Refuses more damage than is allowed.

    Args:
        damaged: list of `record_scan.Damage`.
        limit: int, how many records may be lost.

    Raises:
        ValueError: names the first damage.
    """
    lost = sum(damage.records for damage in damaged)
    if lost > limit:
        raise ValueError(
            f"{damaged[0]}; {lost} or more records are damaged, --max_bad_records={limit} are "
            "allowed: write the files again, or allow more"
        )


def left_out(stream):
    """The damaged records that are left out.

    Args:
        stream: `JointStream`, or an object with its four sources.

    Returns:
        list of `record_scan.Damage`.
    """
    sources = (stream.images, stream.image_validation, stream.texts, stream.text_validation)
    return [damage for source in sources if source for damage in source.records.damaged]


def first_damage(source):
    """The first damage in files that were not found with `salvage`.

    Args:
        source: `ImageStream` or `TextStream`.

    Returns:
        `record_scan.Damage`, or None.
    """
    records = type(source.records).find(source.records.pattern, "", salvage=True)
    if records.damaged:
        return records.damaged[0]
    for number, reason in _unusable(dataclasses.replace(source, records=records)):
        return records.without({number: reason}).damaged[0]
    return None


def reason_of(error):
    """What is wrong with a record.

    Args:
        error: `tf.errors.OpError`.

    Returns:
        str, the error's message in one line, without the names of operations.
    """
    asserted = re.search(r"assertion failed: \[(.*?)\] \[(.*?)\]", error.message, re.DOTALL)
    if asserted:
        return f"{asserted[1]}: {asserted[2]}"
    if counted := _OTHER_COUNT.search(error.message):
        unparsed = "cannot be parsed, or " if counted[2] == "." else ""
        return f"its field {counted[1]!r} {unparsed}holds more or fewer values than it should"
    text = re.split(r"\[\[\{\{|\[Op:", error.message)[0].strip().splitlines()[-1]
    return re.sub(r"\{\{.*?\}\} ?|.*Iterator::\S+ ", "", text)


def _unusable(source):
    """Yields (index, reason) of the records that the source cannot decode."""
    records = iter(source.probes())
    for number in itertools.count():
        try:
            next(records)
        except StopIteration:
            return
        except (tf.errors.InvalidArgumentError, tf.errors.DataLossError) as error:
            yield number, reason_of(error)  # the dataset continues with the next record
