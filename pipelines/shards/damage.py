"""Finds the records that cannot be used, each by its file, its number and the reason.

TensorFlow stops at the first of them without naming its file, or drops the rest of the file
without a word if errors are ignored. So records are looked at one by one here, either to name the
culprit after a failure, or to leave out exactly those that are damaged.
"""

import dataclasses
import itertools
import re

from pipelines.command_line import UserError


def without_damaged(source, limit):
    """The same source without its damaged records.

    Args:
        source: `ImageStream` or `TextStream`, its `records` found with `salvage`.
        limit: int, how many may be lost.

    Raises:
        UserError: more are damaged.
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
        UserError: names the first damage.
    """
    lost = sum(damage.records for damage in damaged)
    if lost > limit:
        raise UserError(
            f"{damaged[0]}; {lost} or more records are damaged, --max_bad_records={limit} are "
            "allowed: write the files again, or allow more"
        )


def left_out(stream):
    """The damaged records that are left out, a list of `record_scan.Damage`.

    Args:
        stream: `JointStream`, or what has its four sources.
    """
    sources = (stream.images, stream.image_validation, stream.texts, stream.text_validation)
    return [damage for source in sources if source for damage in source.records.damaged]


def first_damage(source):
    """The first damage of a source whose files were not searched for any, or None."""
    records = type(source.records).find(source.records.pattern, "", salvage=True)
    if records.damaged:
        return records.damaged[0]
    for number, reason in _unusable(dataclasses.replace(source, records=records)):
        return records.without({number: reason}).damaged[0]
    return None


def reason_of(error):
    """What is wrong with a record, from TensorFlow's error: one line without places in programs."""
    asserted = re.search(r"assertion failed: \[(.*?)\] \[(.*?)\]", error.message, re.DOTALL)
    if asserted:
        return f"{asserted[1]}: {asserted[2]}"
    text = re.split(r"\[\[\{\{|\[Op:", error.message)[0].strip().splitlines()[-1]
    return re.sub(r"\{\{.*?\}\} ?|.*Iterator::\S+ ", "", text)


def _unusable(source):
    """Yields (number, reason) of the records that the source cannot decode."""
    import tensorflow as tf

    records = iter(source.probes())
    for number in itertools.count():
        try:
            next(records)
        except StopIteration:
            return
        except (tf.errors.InvalidArgumentError, tf.errors.DataLossError) as error:
            yield number, reason_of(error)  # and the next record comes all the same
