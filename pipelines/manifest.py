"""Writes manifests for existing TFRecord files, or checks every byte of files against them.

    python -m pipelines.manifest --files=PATTERN [--check]

`pipelines.shards.shard_manifest` explains what a manifest is for.
"""

import concurrent.futures
import itertools
import os
import sys

from pipelines import command_line
from pipelines.digests import whole_digest
from pipelines.files import make_folder, reading
from pipelines.flags import define_flags, parse_flags
from pipelines.shards import record_scan, shard_files
from pipelines.shards.shard_manifest import (
    DOCUMENTS,
    IMAGES,
    TEXT_EXAMPLES,
    manifest_path,
    read_manifest,
    write_manifest,
)
from pipelines.text import documents


def describe(prefix, files):
    """Writes the manifest for TFRecord files that have none; reads and checks every byte.

    Args:
        prefix: str, see `shard_files.shard_prefix`.
        files: list of str, all the files of the prefix.

    Raises:
        ValueError: there is a manifest already, a file is damaged, or holds neither images nor BERT
            examples, or the manifest cannot be written.
    """
    import tensorflow as tf

    if tf.io.gfile.exists(manifest_path(prefix)):
        raise ValueError(
            f"{manifest_path(prefix)}: already exists; give --check to compare the files with it, "
            "narrow --files, or remove it"
        )
    make_folder(os.path.dirname(prefix) or ".", "files")
    with concurrent.futures.ThreadPoolExecutor() as threads:
        entries = list(threads.map(_entry, files))
    write_manifest(prefix, _kind(prefix, files), entries, {})


def check(prefix, files):
    """Checks every byte of files against their manifest.

    Args:
        prefix, files: as in `describe`.

    Raises:
        ValueError: there is no manifest, or a file differs from it.
    """
    manifest = read_manifest(prefix)
    if manifest is None:
        raise ValueError(f"{manifest_path(prefix)}: does not exist; leave out --check to write it")
    folder = os.path.dirname(prefix)
    entries = {os.path.join(folder, entry["name"]): entry for entry in manifest["shards"]}
    for file in sorted(set(files) ^ set(entries)):
        if file in files:
            raise ValueError(
                f"{file} is not listed in {manifest_path(prefix)}; remove it, or narrow --files"
            )
        raise ValueError(f"{file} is listed in {manifest_path(prefix)} but is missing; restore it")
    with concurrent.futures.ThreadPoolExecutor() as threads:
        for file, (digest, size) in zip(files, threads.map(whole_digest, files), strict=True):
            entry = entries[file]
            if digest != entry["sha256"]:
                raise ValueError(
                    f"{file} is not what was written (sha256 {digest[:12]}, not "
                    f"{entry['sha256'][:12]}); copy or write it again"
                )
            places = dict(enumerate(_offsets(file, manifest["kind"])))
            index_is_right = all(places.get(n, 0) == offset for n, offset in entry["index"])
            if (len(places), size, True) != (entry["records"], entry["bytes"], index_is_right):
                raise ValueError(
                    f"{manifest_path(prefix)}: does not match {file}, which holds {len(places)} "
                    "records; remove the manifest, or write the data again"
                )


def _offsets(file, kind):
    """Yields where the records of a file begin."""
    if kind != DOCUMENTS:
        yield from record_scan.record_offsets(file)
        return
    with reading(file) as (stream, _):
        for offset, _ in documents.placed_lines(stream, 0):
            yield offset


def _entry(file):
    runs, damages = record_scan.salvage(file)
    if damages:
        raise ValueError(f"{damages[0]}; write the file again before it gets a manifest")
    digest, size = whole_digest(file)
    return {
        "name": os.path.basename(file),
        "records": sum(run.count for run in runs),
        "bytes": size,
        "sha256": digest,
        "index": [place for run in runs for place in run.index],
    }


def _kind(prefix, files):
    """What the first record of the files is."""
    import tensorflow as tf

    for record in tf.data.TFRecordDataset(files).take(1):
        features = tf.train.Example.FromString(record.numpy()).features.feature
        if "image/encoded" in features:
            return IMAGES
        if {"input_ids", "input_word_ids"} & set(features):
            return TEXT_EXAMPLES
    raise ValueError(
        f"{prefix}: holds neither images nor BERT examples; give TFRecords of one of them"
    )


def main(argv):
    """The command: writes the manifests of some files, or checks the files against them.

    Args:
        argv: list of str, without the program's name.
    """
    values = define_flags(
        ("files", None, "Pattern of the files, local or gs://."),
        ("check", False, "Compare the files with their manifest."),
    )
    parse_flags(values, argv, __doc__, ("files",))
    command_line.load_tensorflow()
    files = shard_files.matching(values.files, "files")
    for prefix, group in itertools.groupby(files, key=shard_files.shard_prefix):
        group = list(group)
        (check if values.check else describe)(prefix, group)
        print(f"{manifest_path(prefix)}: {len(group)} files", "as written" if values.check else "")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
