"""TFRecord files as one numbered set of records, and what is damaged in them.

A record is its length, the length's checksum, the payload and the payload's checksum. What follows
a damaged length cannot be found: the rest of that file is lost.

TensorFlow stops at the first damaged record without naming its file or, if errors are ignored,
silently drops the rest of the file. So damage is looked for record by record, either to name the
culprit after a failure, or to leave out exactly the damaged ones.
"""

import bisect
import collections
import concurrent.futures
import dataclasses
import fnmatch
import functools
import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError

from pipelines.command_line import say
from pipelines.digests import sampled_digest
from pipelines.files import reading
from pipelines.shards import shard_files
from pipelines.shards.shard_files import (
    CRC,
    FOOTER_BYTES,
    HEADER_BYTES,
    LENGTH,
    masked_crc,
    matching,
    shard_prefix,
)
from pipelines.shards.shard_manifest import manifest_path, read_manifest

_FILE_THREADS = 16  # they wait for the disk or the network
_READ_BUFFER_BYTES = 1 << 18


@dataclasses.dataclass(frozen=True)
class Run:
    """Consecutive whole records of one file."""

    file: str
    first: int  # the index of its first record in the file
    count: int
    # Pairs of a record's index in the file and its offset in bytes, ascending; begins with the
    # first record or before it.
    index: tuple[tuple[int, int], ...]
    # SHA-256 of the checksums of all whole records of the file; empty if they have not been read.
    checksums: str = dataclasses.field(default="", compare=False)

    def part(self, begin: int, end: int) -> "Run":
        """The records `begin` to `end` (excluded), indices in the file."""
        nearest = bisect.bisect_right(self.index, begin, key=lambda place: place[0]) - 1
        index = tuple(place for place in self.index[nearest:] if place[0] < end)
        return Run(self.file, begin, end - begin, index, self.checksums)


@dataclasses.dataclass(frozen=True)
class Damage:
    """`records` records of a file that cannot be used; `record` is the index of the first."""

    file: str
    record: int
    reason: str
    records: int = 1

    def __str__(self) -> str:
        last = f" to {self.record + self.records - 1}" if self.records > 1 else ""
        return f"{self.file}: record {self.record}{last}: {self.reason}"


def scan(file: str, records: int | None = None) -> tuple[Run, Damage | None]:
    """Finds the records of a file, local or `gs://`, up to the first damaged length.

    The payloads' checksums lie between the headers, so a digest of them needs no extra reading. It
    distinguishes these payloads from others; reading shows whether they match. `records` is how
    many the file should hold; if that is not known, what is lost counts as one.
    """
    digest, index = hashlib.sha256(), []
    number = position = 0
    reason = ""
    with reading(file) as (stream, size):
        while position < size:
            stream.seek(position)
            header, end = stream.read(HEADER_BYTES), size + 1
            if len(header) == HEADER_BYTES:
                if masked_crc(header[: LENGTH.size]) != CRC.unpack_from(header, LENGTH.size)[0]:
                    reason = "its length is damaged, or this is no TFRecord file"
                    break
                end = position + HEADER_BYTES + LENGTH.unpack_from(header)[0] + FOOTER_BYTES
            if end > size:
                reason = "the file is cut short"
                break
            if not index or position - index[-1][1] >= shard_files.INDEX_BYTES:
                index.append((number, position))
            stream.seek(end - FOOTER_BYTES)
            digest.update(stream.read(FOOTER_BYTES))
            number, position = number + 1, end
    run = Run(file, 0, number, tuple(index), digest.hexdigest())
    lost = int(bool(reason)) if records is None else records - number
    return run, Damage(file, number, reason or "the file is cut short", lost) if lost > 0 else None


@dataclasses.dataclass(frozen=True)
class RecordFiles:
    """The records of a set of files, numbered from 0 file after file, damaged ones left out."""

    pattern: str  # by which the files were found, for messages
    runs: tuple[Run, ...]
    bytes: int  # of all files
    damaged: tuple[Damage, ...] = ()  # what is left out
    # By path. `content_sha256`, a digest of the shards' digests, replaces the shards.
    manifests: dict[str, dict] = dataclasses.field(default_factory=dict, compare=False)
    in_memory: bool = False  # a host keeps the records that it reads for training, in `memory`
    memory: dict[tuple[int, int], Any] = dataclasses.field(default_factory=dict, compare=False)

    @classmethod
    def find(cls, pattern: str, skip: bool = False) -> "RecordFiles":
        """Finds the files that match a pattern, and where their records lie.

        A manifest beside the files says where. Without one, their headers are read, which on a
        remote disk takes as long as reading everything; `pipelines.manifest` writes one.

        With `skip` all headers are read, and damage is left out instead of refused.
        """
        files = matching(pattern)
        manifests, entries = {}, {}
        for prefix, group in itertools.groupby(files, key=shard_prefix):
            manifest = read_manifest(prefix)
            if manifest is None:
                continue
            entries |= _entries(prefix, manifest, list(group), pattern)
            content = _digest([entry["sha256"] for entry in manifest["shards"]])
            manifests[manifest_path(prefix)] = {**manifest, "shards": [], "content_sha256": content}
        if skip:
            say(f"{pattern}: looking for damaged records in {len(files)} files")
        elif "://" in pattern and len(entries) < len(files):
            say(f"{pattern}: no manifest, so the headers of all {len(files)} files are read")
        with concurrent.futures.ThreadPoolExecutor(_FILE_THREADS) as threads:
            opened = list(threads.map(lambda file: _run(file, entries.get(file), skip), files))
        runs = tuple(run for run, _, _ in opened if run.count)
        if not runs:
            raise ValueError(f"{pattern} holds no records")
        damaged = tuple(damage for _, damage, _ in opened if damage)
        return cls(pattern, runs, sum(size for _, _, size in opened), damaged, manifests)

    @functools.cached_property
    def count(self) -> int:
        return sum(run.count for run in self.runs)

    @functools.cached_property
    def sha256(self) -> str:
        """Identifies the content by each file's records, size and ends, not by names."""
        places = collections.defaultdict(list)
        for run in self.runs:
            places[run.file].append((run.first, run.count))
        with concurrent.futures.ThreadPoolExecutor(_FILE_THREADS) as threads:
            digests = list(threads.map(sampled_digest, places))
        # For a range from a file's beginning, usually the whole file, only its length counts.
        ranges = [of[0][1] if len(of) == 1 and not of[0][0] else of for of in places.values()]
        return _digest(list(zip(ranges, digests, strict=True)))

    @property
    def manifest_sha256(self) -> str | None:
        """SHA-256 of what the manifests say about the content of all files; None without any."""
        known = [self.manifests[path]["content_sha256"] for path in sorted(self.manifests)]
        return _digest(known) if known else None

    @property
    def checksums_sha256(self) -> str | None:
        """SHA-256 of the checksums of all records; None if a manifest has saved reading them."""
        known = {run.file: run.checksums for run in self.runs}
        return _digest(list(known.values())) if all(known.values()) else None

    @functools.cached_property
    def files(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(run.file for run in self.runs))

    @functools.cached_property
    def starts(self) -> tuple[int, ...]:
        """For each run, the index of its first record among all."""
        return tuple(itertools.accumulate((run.count for run in self.runs), initial=0))[:-1]

    def locate(self, number: int) -> tuple[str, int]:
        """The place of record `number` among all: (path of its file, its index there)."""
        place = bisect.bisect_right(self.starts, number) - 1
        run = self.runs[place]
        return run.file, run.first + number - self.starts[place]

    def leave_out(self, reasons: dict[int, str]) -> "RecordFiles":
        """The same files without some records: their indices, and why they cannot be used."""
        bad = sorted(reasons)
        ranges = zip([0, *(number + 1 for number in bad)], [*bad, self.count], strict=True)
        damaged = [Damage(*self.locate(number), reasons[number]) for number in bad]
        damaged = sorted([*self.damaged, *damaged], key=lambda d: (d.file, d.record))
        return dataclasses.replace(self, runs=self._cut(ranges), damaged=tuple(damaged))

    def part(self, ranges: Iterable[tuple[int, int]]) -> "RecordFiles":
        """Some of the records: ascending ranges of indices, their ends excluded."""
        runs = self._cut(ranges)
        count = sum(run.count for run in runs)
        return dataclasses.replace(self, runs=runs, bytes=max(self.bytes * count // self.count, 1))

    def _cut(self, ranges: Iterable[tuple[int, int]]) -> tuple[Run, ...]:
        return tuple(
            run.part(run.first + max(begin - start, 0), run.first + min(end - start, run.count))
            for begin, end in ranges
            for start, run in zip(self.starts, self.runs, strict=True)
            if max(begin, start) < min(end, start + run.count)
        )

    def first_example(self) -> tf.train.Example:
        """The first record that is whole and such a message, of the first 100."""
        for number in range(min(self.count, 100)):
            try:
                [record] = self.in_order(number, number + 1).as_numpy_iterator()
                return tf.train.Example.FromString(record)
            except (tf.errors.DataLossError, DecodeError):
                continue
        raise ValueError(f"{self.pattern}: the first records are damaged, or no examples")

    def in_order(self, begin: Any = 0, end: Any = None) -> tf.data.Dataset:
        """The serialized records `begin` to `end`, excluded; indices may be int64 tensors."""
        return self.reader(begin, (self.count if end is None else end) - begin)

    @functools.cached_property
    def reader(self) -> Callable[[Any, Any], tf.data.Dataset]:
        """A function of (index of the first record, how many) that returns a dataset of them.

        It may be called inside a dataset's function, with tensors. It seeks by the index, and reads
        on across the ends of files.
        """
        places = [
            (self.starts[run_number] + number - run.first, offset, run_number)
            for run_number, run in enumerate(self.runs)
            for number, offset in run.index
        ]
        numbers, offsets, owners = tf.unstack(tf.constant(places, tf.int64), axis=1)
        starts = tf.constant(self.starts, tf.int64)
        ends = tf.constant([*self.starts[1:], self.count], tf.int64)
        files = tf.constant([run.file for run in self.runs])
        # A run cut out of another can have its first index entry before its first record.
        keys = tf.maximum(numbers, tf.gather(starts, owners))

        def read_run(run: tf.Tensor, begin: tf.Tensor, end: tf.Tensor) -> tf.data.Dataset:
            begin, end = tf.maximum(begin, starts[run]), tf.minimum(end, ends[run])
            place = tf.searchsorted(keys, [begin], "right", tf.int64)[0] - 1
            records = tf.raw_ops.TFRecordDatasetV2(
                filenames=files[run : run + 1],
                compression_type="",
                buffer_size=tf.constant(_READ_BUFFER_BYTES, tf.int64),
                byte_offsets=offsets[place : place + 1],
            )
            records = tf.data.experimental.from_variant(records, tf.TensorSpec((), tf.string))
            records = records.skip(begin - numbers[place]).take(end - begin)
            # Fails at the end of a file that holds fewer records than its manifest says.
            return records.apply(tf.data.experimental.assert_cardinality(end - begin))

        def read(begin: Any, count: Any) -> tf.data.Dataset:
            begin = tf.cast(begin, tf.int64)
            end = begin + tf.cast(count, tf.int64)
            bounds = tf.searchsorted(starts, tf.stack([begin, end - 1]), "right", tf.int64) - 1
            runs = tf.data.Dataset.range(bounds[0], tf.where(end > begin, bounds[1] + 1, 0))
            return runs.flat_map(lambda run: read_run(run, begin, end))

        return read


def open_without_damaged(pattern: str, open_source: Callable, limit: int) -> Any:
    """The source that `open_source` makes from the `RecordFiles` of a pattern, less the damaged."""
    source = open_source(RecordFiles.find(pattern, skip=True))
    records = source.records
    check_limit(records.damaged, limit)  # before every record is read
    room = limit - sum(damage.records for damage in records.damaged)
    records = records.leave_out(dict(itertools.islice(_unusable(source), room + 1)))
    check_limit(records.damaged, limit)
    return dataclasses.replace(source, records=records)


def check_limit(damaged: Iterable[Damage], limit: int) -> None:
    """Refuses more damaged records than `limit`; names the first."""
    lost = sum(damage.records for damage in damaged)
    if lost > limit:
        raise ValueError(
            f"{next(iter(damaged))}; {lost} or more are damaged, skip_damaged allows {limit}"
        )


def left_out(stream: Any) -> list[Damage]:
    """The damaged records that a `JointStream` leaves out."""
    sources = (stream.images, stream.image_validation, stream.texts, stream.text_validation)
    return [damage for source in sources if source for damage in source.records.damaged]


def first_damage(source: Any) -> Damage | None:
    """The first damage in files of a source, which has left out none."""
    records = RecordFiles.find(source.records.pattern, skip=True)
    if not records.damaged:
        unusable = _unusable(dataclasses.replace(source, records=records))
        records = records.leave_out(dict(itertools.islice(unusable, 1)))
    return next(iter(records.damaged), None)


def reason_of(error: tf.errors.OpError) -> str:
    """The message of an error in one line, without the names of operations."""
    asserted = re.search(r"assertion failed: \[(.*?)\] \[(.*?)\]", error.message, re.DOTALL)
    if asserted:
        return f"{asserted[1]}: {asserted[2]}"
    text = re.split(r"\[\[\{\{|\[Op:", error.message)[0]
    text = re.sub(r"\{\{.*?\}\} ?|.*Iterator::\S+ ", "", text).strip()
    return text.splitlines()[-1] if text else type(error).__name__


def _unusable(source: Any) -> Iterator[tuple[int, str]]:
    """Yields the index of each record that the source cannot decode, and the reason."""
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


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _entries(prefix: str, manifest: dict, files: list[str], pattern: str) -> dict[str, dict]:
    """The entries of a manifest by file; refuses files that it does not list, or that are gone."""
    folder, path = os.path.dirname(prefix), manifest_path(prefix)
    entries = {os.path.join(folder, entry["name"]): entry for entry in manifest["shards"]}
    for file in files:
        if file not in entries:
            raise ValueError(f"{file}: is not listed in {path}")
    for file in entries:  # the pattern may leave some out on purpose
        if file not in files and fnmatch.fnmatch(file, pattern):
            raise ValueError(f"{file} is missing; {path} lists it")
    return entries


def _run(file: str, entry: dict | None, skip: bool) -> tuple[Run, Damage | None, int]:
    """The records of a file, their damage, and its size."""
    size = tf.io.gfile.stat(file).length
    if entry is not None and not skip:
        if size != entry["bytes"]:
            raise ValueError(f"{file} has {size} bytes, its manifest says {entry['bytes']}")
        index = tuple(tuple(place) for place in entry["index"])
        return Run(file, 0, entry["records"], index), None, size
    run, damage = scan(file, entry["records"] if entry else None)
    if damage is not None and not skip:
        raise ValueError(str(damage))
    return run, damage, size
