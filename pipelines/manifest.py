"""Writes manifests for existing TFRecord files, or checks every byte of files against them.

    python -m pipelines.manifest --files=PATTERN [--check]

`pipelines.shards.shard_manifest` explains what a manifest is for.
"""

import concurrent.futures
import itertools
import os
import sys
from typing import Any

from pipelines import command_line
from pipelines.digests import whole_digest
from pipelines.files import make_folder
from pipelines.flags import define_flags, parse_flags
from pipelines.shards import shard_files
from pipelines.shards.shard_manifest import (
    IMAGES,
    TEXT_EXAMPLES,
    manifest_path,
    read_manifest,
    write_manifest,
)


def describe(prefix: str, files: list[str]) -> None:
    """Writes the manifest for all files of a prefix; reads and checks every byte."""
    import tensorflow as tf

    if tf.io.gfile.exists(manifest_path(prefix)):
        raise ValueError(
            f"{manifest_path(prefix)}: already exists; give --check to compare the files with it"
        )
    make_folder(os.path.dirname(prefix) or ".")
    with concurrent.futures.ThreadPoolExecutor() as threads:
        entries = list(threads.map(_entry, files))
    write_manifest(prefix, _kind(prefix, files), entries, {})


def check(prefix: str, files: list[str]) -> None:
    """Checks every byte of the files of a prefix against their manifest."""
    path, manifest = manifest_path(prefix), read_manifest(prefix)
    if manifest is None:
        raise ValueError(f"{path}: does not exist; leave out --check to write it")
    folder = os.path.dirname(prefix)
    listed = {
        os.path.join(folder, entry["name"]): (entry["sha256"], entry["bytes"])
        for entry in manifest["shards"]
    }
    for file in sorted(set(files) ^ set(listed)):
        what = "is not listed" if file in files else "is missing, but listed"
        raise ValueError(f"{file} {what} in {path}")
    with concurrent.futures.ThreadPoolExecutor() as threads:
        for file, digest in zip(files, threads.map(whole_digest, files), strict=True):
            if digest != listed[file]:
                raise ValueError(f"{file} is not what was written")


def _entry(file: str) -> dict[str, Any]:
    """What the writer of a file of records puts into the manifest; reads and checks every byte."""
    import tensorflow as tf

    from pipelines.shards.records import reason_of, scan

    try:
        for _ in tf.data.TFRecordDataset(file):  # which compares the checksums
            pass
    except tf.errors.DataLossError as error:
        raise ValueError(f"{file}: {reason_of(error)}") from error
    run, _ = scan(file)
    digest, size = whole_digest(file)
    return {
        "name": os.path.basename(file),
        "records": run.count,
        "bytes": size,
        "sha256": digest,
        "index": run.index or [[0, 0]],
    }


def _kind(prefix: str, files: list[str]) -> str:
    """What the first record of the files is."""
    import tensorflow as tf

    for record in tf.data.TFRecordDataset(files).take(1):
        features = tf.train.Example.FromString(record.numpy()).features.feature
        if "image/encoded" in features:
            return IMAGES
        if {"input_ids", "input_word_ids"} & set(features):
            return TEXT_EXAMPLES
    raise ValueError(f"{prefix}: holds neither images nor BERT examples")


def main(argv: list[str]) -> None:
    """The command, with its arguments without the program's name."""
    values = define_flags(
        ("files", None, "Pattern of the files, local or gs://."),
        ("check", False, "Compare the files with their manifest."),
    )
    parse_flags(values, argv, str(__doc__), ("files",))
    command_line.load_tensorflow()
    files = shard_files.matching(values.files)
    for prefix, group in itertools.groupby(files, key=shard_files.shard_prefix):
        group = list(group)
        (check if values.check else describe)(prefix, group)
        print(f"{manifest_path(prefix)}: {len(group)} files", "as written" if values.check else "")


if __name__ == "__main__":
    sys.exit(command_line.run(main))
