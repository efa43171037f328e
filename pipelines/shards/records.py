"""TFRecord files as one numbered set of records.

A record is its length, the length's checksum, the payload and the payload's checksum. What follows
a damaged length cannot be found: the rest of that file is lost.
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

import tensorflow as tf
from google.protobuf.message import DecodeError

from pipelines.command_line import say
from pipelines.digests import sampled_digest
from pipelines.files import reading
from pipelines.shards.shard_files import (
    CRC,
    FOOTER_BYTES,
    HEADER_BYTES,
    INDEX_BYTES,
    LENGTH,
    masked_crc,
    matching,
    shard_prefix,
)
from pipelines.shards.shard_manifest import manifest_path, read_manifest

_FILE_THREADS = 16  # they wait for the disk or the network
_READ_BUFFER_BYTES = 1 << 18
BAD_CONTENT = "its content does not match its checksum"


class BadRecord(ValueError):
    """A record of a file that cannot be used; `reason` says why."""

    def __init__(self, file: str, reason: str):
        super().__init__(f"{file}: {reason}")
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Run:
    """Consecutive whole records of one file.

    Attributes:
        file: str.
        first: int, the index of its first record in the file.
        count: int, how many records.
        index: tuple of (record's index in the file, offset in bytes), ascending; begins with the
            first record or before it.
        checksums: str, the SHA-256 of the checksums of all whole records of the file; empty if
            they have not been read.
    """

    file: str
    first: int
    count: int
    index: tuple[tuple[int, int], ...]
    checksums: str = dataclasses.field(default="", compare=False)

    def part(self, begin: int, end: int) -> "Run":
        """The records `begin` to `end` (excluded), indices in the file.

        Its index begins at or before `begin`: a reader skips what comes before.
        """
        nearest = bisect.bisect_right(self.index, begin, key=lambda place: place[0]) - 1
        index = tuple(place for place in self.index[nearest:] if place[0] < end)
        return Run(self.file, begin, end - begin, index, self.checksums)


@dataclasses.dataclass(frozen=True)
class Damage:
    """Records of a file that cannot be used.

    Attributes:
        file: str.
        record: int, the index of the first of them in the file.
        reason: str.
        records: int, how many.
    """

    file: str
    record: int
    reason: str
    records: int = 1

    def __str__(self):
        last = f" to {self.record + self.records - 1}" if self.records > 1 else ""
        return f"{self.file}: record {self.record}{last}: {self.reason}"


def scan(file: str, records: int | None = None) -> tuple[Run, Damage | None]:
    """Finds the records of a file, local or `gs://`, up to the first damaged length.

    The payloads' checksums lie between the headers, so a digest of them needs no extra reading. It
    distinguishes these payloads from others; reading shows whether they match.

    Args:
        records: how many the file should hold; if that is not known, what is lost counts as one.
    """
    digest, index = hashlib.sha256(), []
    number = position = 0
    reason = None
    with reading(file) as (stream, size):
        while position < size and reason is None:
            stream.seek(position)
            header = stream.read(HEADER_BYTES)
            end = size + 1
            if len(header) == HEADER_BYTES:
                end = position + HEADER_BYTES + LENGTH.unpack_from(header)[0] + FOOTER_BYTES
                if masked_crc(header[: LENGTH.size]) != CRC.unpack_from(header, LENGTH.size)[0]:
                    reason = "its length is damaged, or this is no TFRecord file"
            if reason is None and end > size:
                reason = "the file is cut short"
            if reason is None:
                if not index or position - index[-1][1] >= INDEX_BYTES:
                    index.append((number, position))
                stream.seek(end - FOOTER_BYTES)
                digest.update(stream.read(FOOTER_BYTES))
                number, position = number + 1, end
    if records is None:
        records = number + (reason is not None)
    run = Run(file, 0, number, tuple(index), digest.hexdigest())
    if number >= records:
        return run, None
    return run, Damage(file, number, reason or "the file is cut short", records - number)


@dataclasses.dataclass(frozen=True)
class RecordFiles:
    """The records of a set of files, numbered from 0 file after file, damaged ones left out.

    Attributes:
        pattern: str, the glob pattern they were found by, for messages.
        runs: tuple of `Run`.
        bytes: int, of all files.
        damaged: tuple of `Damage`: what is left out.
        manifests: dict of a manifest's path to its content; `content_sha256`, a digest of the
            shards' digests, replaces the shards.
    """

    pattern: str
    runs: tuple[Run, ...]
    bytes: int
    damaged: tuple[Damage, ...] = ()
    manifests: dict[str, dict] = dataclasses.field(default_factory=dict, compare=False)

    @classmethod
    def find(cls, pattern: str, skip: bool = False) -> "RecordFiles":
        """Finds the files that match a pattern, and where their records lie.

        A manifest beside the files says where. Without one, their headers are read, which on a
        remote disk takes as long as reading everything; `pipelines.manifest` writes one.

        Args:
            pattern: glob pattern, local or `gs://`.
            skip: whether to read all headers, and to leave out what cannot be found instead of
                refusing files.

        Raises:
            ValueError: nothing matches, a file is not what its manifest says, a file is cut short,
                or there is no record at all.
        """
        files = matching(pattern)
        manifests, entries = {}, {}
        for prefix, group in itertools.groupby(files, key=shard_prefix):
            manifest, path = read_manifest(prefix), manifest_path(prefix)
            if manifest is None:
                continue
            entries |= _entries(prefix, manifest, list(group), pattern)
            digests = json.dumps([entry["sha256"] for entry in manifest["shards"]])
            content = hashlib.sha256(digests.encode()).hexdigest()
            manifests[path] = {**manifest, "shards": [], "content_sha256": content}
        if skip:
            say(f"{pattern}: looking for damaged records in {len(files)} files")
        elif "://" in pattern and len(entries) < len(files):
            say(f"{pattern}: no manifest, so the headers of all {len(files)} files are read")
        with concurrent.futures.ThreadPoolExecutor(_FILE_THREADS) as threads:
            found = list(threads.map(lambda file: _run(file, entries.get(file), skip), files))
        runs = tuple(run for run, _, _ in found if run.count)
        if not runs:
            raise ValueError(f"{pattern} holds no records")
        damaged = tuple(damage for _, damage, _ in found if damage)
        return cls(pattern, runs, sum(size for _, _, size in found), damaged, manifests)

    @functools.cached_property
    def count(self):
        """How many records there are."""
        return sum(run.count for run in self.runs)

    @functools.cached_property
    def sha256(self):
        """Identifies the content by each file's records, size and ends.

        SHA-256 of these, see `pipelines.digests.sampled_digest`. Names and folders do not count.
        """
        places = collections.defaultdict(list)
        for run in self.runs:
            places[run.file].append((run.first, run.count))
        with concurrent.futures.ThreadPoolExecutor(_FILE_THREADS) as threads:
            digests = list(threads.map(sampled_digest, places))
        # For a range from a file's beginning, usually the whole file, only its length counts.
        parts = [of[0][1] if len(of) == 1 and not of[0][0] else of for of in places.values()]
        files = list(zip(parts, digests, strict=True))
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()

    @property
    def manifest_sha256(self):
        """SHA-256 of what the manifests say about the content of all files; None without any."""
        known = [self.manifests[path]["content_sha256"] for path in sorted(self.manifests)]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest() if known else None

    @property
    def checksums_sha256(self):
        """SHA-256 of the checksums of all records; None if a manifest has saved reading them."""
        known = {run.file: run.checksums for run in self.runs}
        if not all(known.values()):
            return None
        return hashlib.sha256(json.dumps(list(known.values())).encode()).hexdigest()

    @functools.cached_property
    def files(self):
        """The paths of the files, sorted."""
        return tuple(dict.fromkeys(run.file for run in self.runs))

    @functools.cached_property
    def starts(self):
        """For each run, the index of its first record among all."""
        return tuple(itertools.accumulate((run.count for run in self.runs), initial=0))[:-1]

    @functools.cached_property
    def memory(self):
        """The records that `ShuffledRecords` keeps, by (number of hosts, index of the host)."""
        return {}

    def locate(self, number: int) -> tuple[str, int]:
        """The place of record `number` among all: (path of its file, its index there)."""
        place = bisect.bisect_right(self.starts, number) - 1
        run = self.runs[place]
        return run.file, run.first + number - self.starts[place]

    def without(self, reasons):
        """The same files without some records.

        Args:
            reasons: dict of a record's index to why it cannot be used.

        Returns:
            `RecordFiles`.
        """
        bad = sorted(reasons)
        begins, ends = [0, *(number + 1 for number in bad)], [*bad, self.count]
        runs = [
            run for begin, end in zip(begins, ends, strict=True) for run in self._cut(begin, end)
        ]
        damaged = [Damage(*self.locate(number), reasons[number]) for number in bad]
        damaged = sorted([*self.damaged, *damaged], key=lambda d: (d.file, d.record))
        return dataclasses.replace(self, runs=tuple(runs), damaged=tuple(damaged))

    def part(self, ranges):
        """Some of the records.

        Args:
            ranges: list of (first, end), ascending indices; `end` is excluded.

        Returns:
            `RecordFiles`.
        """
        runs = tuple(run for begin, end in ranges for run in self._cut(begin, end))
        count = sum(run.count for run in runs)
        return dataclasses.replace(self, runs=runs, bytes=max(self.bytes * count // self.count, 1))

    def _cut(self, begin, end):
        """Yields the runs of the records `begin` to `end` (excluded)."""
        for start, run in zip(self.starts, self.runs, strict=True):
            low, high = max(begin - start, 0), min(end - start, run.count)
            if low < high:
                yield run.part(run.first + low, run.first + high)

    def first_example(self) -> tf.train.Example:
        """The first record; a `BadRecord` if it cannot be read or is not such a message."""
        run = self.runs[0]
        first = tf.data.TFRecordDataset(run.file).skip(run.first).take(1)
        try:
            [record] = first.as_numpy_iterator()
            return tf.train.Example.FromString(record)
        except tf.errors.DataLossError as error:
            raise BadRecord(run.file, f"the first record is damaged: {BAD_CONTENT}") from error
        except DecodeError as error:
            raise BadRecord(run.file, f"its first record is no example ({error})") from error

    def in_order(self, begin=0, end=None):
        """The records, file after file.

        Args:
            begin, end: int or int64 tensor, indices; `end` is excluded, None for all that follow.

        Returns:
            `tf.data.Dataset` of serialized records.
        """
        return self.reader(begin, (self.count if end is None else end) - begin)

    @functools.cached_property
    def reader(self):
        """A function of (index of the first record, how many) that returns a dataset of them.

        It may be called inside a dataset's function, with tensors. It uses the manifest's index to
        seek, and reads on across the ends of files.
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

        def read_run(run, begin, end):
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

        def read(begin, count):
            begin = tf.cast(begin, tf.int64)
            end = begin + tf.cast(count, tf.int64)
            bounds = tf.searchsorted(starts, tf.stack([begin, end - 1]), "right", tf.int64) - 1
            runs = tf.data.Dataset.range(bounds[0], tf.where(end > begin, bounds[1] + 1, 0))
            return runs.flat_map(lambda run: read_run(run, begin, end))

        return read


def _entries(prefix, manifest, files, pattern):
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


def _run(file, entry, skip):
    """(`Run`, `Damage` or None, size) of one file."""
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
