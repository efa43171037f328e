"""TFRecord files as one numbered set of records."""

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
from pipelines.shards import record_scan
from pipelines.shards.record_scan import Damage, Run
from pipelines.shards.shard_files import matching, shard_prefix
from pipelines.shards.shard_manifest import manifest_path, read_manifest

_FILE_THREADS = 16  # they wait for the disk or the network
_READ_BUFFER_BYTES = 1 << 18


class BadRecord(ValueError):
    """A record of a file that cannot be used; `reason` says why."""

    def __init__(self, file: str, reason: str):
        super().__init__(f"{file}: {reason}")
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class RecordFiles:
    """The records of a set of files, numbered from 0 file after file, damaged ones left out.

    Attributes:
        pattern: str, the glob pattern they were found by, for messages.
        runs: tuple of `record_scan.Run`.
        bytes: int, of all files.
        damaged: tuple of `record_scan.Damage`: what is left out.
        manifests: dict of a manifest's path to its content; `content_sha256`, a digest of the
            shards' digests, replaces the shards.
    """

    pattern: str
    runs: tuple[Run, ...]
    bytes: int
    damaged: tuple[Damage, ...] = ()
    manifests: dict[str, dict] = dataclasses.field(default_factory=dict, compare=False)

    @classmethod
    def find(cls, pattern: str, salvage: bool = False) -> "RecordFiles":
        """Finds the files that match a pattern, and where their records lie.

        A manifest beside the files says where. Without one, their headers are read, which on a
        remote disk takes as long as reading everything; `pipelines.manifest` writes one.

        Args:
            pattern: glob pattern, local or `gs://`.
            salvage: whether to read all headers, and to leave out what cannot be found instead of
                refusing files.

        Raises:
            ValueError: nothing matches, a file is not what its manifest says, a file is cut short,
                or there is no record at all.
        """
        files = matching(pattern)
        manifests, entries, damaged = {}, {}, []
        for prefix, group in itertools.groupby(files, key=shard_prefix):
            manifest, path = read_manifest(prefix), manifest_path(prefix)
            if manifest is None:
                continue
            known, missing = _entries(prefix, manifest, list(group), pattern)
            if missing and not salvage:
                raise ValueError(f"{missing[0]} is missing; {path} lists it")
            entries |= known
            damaged += [Damage(f, 0, "the file is missing", known[f]["records"]) for f in missing]
            digests = json.dumps([entry["sha256"] for entry in manifest["shards"]])
            content = hashlib.sha256(digests.encode()).hexdigest()
            manifests[path] = {**manifest, "shards": [], "content_sha256": content}
        if salvage:
            say(f"{pattern}: looking for damaged records in {len(files)} files")
        elif "://" in pattern and len(entries) < len(files):
            say(f"{pattern}: no manifest, so the headers of all {len(files)} files are read")
        with concurrent.futures.ThreadPoolExecutor(_FILE_THREADS) as threads:
            found = list(threads.map(lambda file: _run(file, entries.get(file), salvage), files))
        runs = tuple(run for run, _, _ in found if run.count)
        if not runs:
            raise ValueError(f"{pattern} holds no records")
        damaged += [damage for _, damage, _ in found if damage]
        return cls(pattern, runs, sum(size for _, _, size in found), tuple(damaged), manifests)

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

    def to_json(self):
        """A JSON-serializable dict that `from_json` takes."""
        return {**dataclasses.asdict(self), "stats": self._stats()}

    @classmethod
    def from_json(cls, content):
        """Restores records.

        Args:
            content: dict, from `to_json`.

        Returns:
            `RecordFiles`.
        """
        runs = tuple(
            Run(**{**run, "index": tuple(tuple(place) for place in run["index"])})
            for run in content["runs"]
        )
        damaged = tuple(Damage(**damage) for damage in content["damaged"])
        return cls(content["pattern"], runs, content["bytes"], damaged, content["manifests"])

    def is_unchanged(self, content):
        """Whether the pattern still finds the same files, of the same sizes and times.

        Args:
            content: dict, from `to_json`.

        Returns:
            bool.
        """
        try:
            return content.get("stats") == self._stats()
        except (ValueError, tf.errors.OpError):  # they are gone
            return False

    def _stats(self):
        """Of all files, also of those without a record that can be used."""
        stats = ((file, tf.io.gfile.stat(file)) for file in matching(self.pattern))
        return [[file, stat.length, stat.mtime_nsec] for file, stat in stats]

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

    def first_example(self):
        """The first record as a `tf.train.Example`.

        Raises:
            BadRecord: it cannot be read or is not such a message.
        """
        record, reason = record_scan.first_record(self.runs[0])
        if reason is None:
            try:
                return tf.train.Example.FromString(record)
            except DecodeError as error:
                reason = str(error)
        raise BadRecord(self.runs[0].file, f"the first record is damaged ({reason})")

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
    """(entries of the manifest by file, the files that are missing).

    Refuses files that the manifest does not list.
    """
    folder = os.path.dirname(prefix)
    entries = {os.path.join(folder, entry["name"]): entry for entry in manifest["shards"]}
    for file in files:
        if file not in entries:
            raise ValueError(f"{file}: is not listed in {manifest_path(prefix)}")
    # A pattern may leave some out on purpose.
    return entries, [f for f in entries if f not in files and fnmatch.fnmatch(f, pattern)]


def _run(file, entry, salvage):
    """(`Run`, `Damage` or None, size) of one file."""
    size = tf.io.gfile.stat(file).length
    if entry is not None and not salvage:
        if size != entry["bytes"]:
            raise ValueError(f"{file} has {size} bytes, its manifest says {entry['bytes']}")
        index = tuple(tuple(place) for place in entry["index"])
        return Run(file, 0, entry["records"], index), None, size
    run, damage = record_scan.scan(file, entry["records"] if entry else None)
    if damage is not None and not salvage:
        raise ValueError(str(damage))
    return run, damage, size
