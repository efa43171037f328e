"""The manifest of a data set: what it consists of, in `PREFIX.manifest.json` beside its shards.

Training uses the manifest to seek: it says where records lie. Files that it does not list and files
of another size are refused. `python -m pipelines.manifest --check` compares every byte.

Its fields:

| field | |
| --- | --- |
| `format`, `version` | of this file |
| `kind` | `DOCUMENTS`, `TEXT_EXAMPLES` or `IMAGES` |
| `settings` | everything that determined the content |
| `vocabulary_sha256` | see `wordpiece.vocabulary_hash`; null where there is none |
| `counts` | documents, tokens, images and the like |
| `damaged` | what was left out: `file`, `record`, `reason` |
| `shards` | in order: `name`, `records`, `bytes`, `sha256`, `index` |
"""

import itertools
import json
import os

from pipelines.files import write_atomically
from pipelines.shards.shard_files import FOOTER_BYTES, HEADER_BYTES

FORMAT, VERSION = "keras_vitbert shards", 1
DOCUMENTS, TEXT_EXAMPLES, IMAGES = "documents", "text examples", "images"  # kinds
_FIELDS = {
    "kind": str, "settings": dict, "vocabulary_sha256": str | None, "counts": dict,
    "damaged": list, "shards": list,
}  # fmt: skip
_SHARD_FIELDS = {"name": str, "records": int, "bytes": int, "sha256": str, "index": list}


def manifest_path(prefix):
    """The path of a manifest.

    Args:
        prefix: str, of the shards, local or `gs://`.

    Returns:
        str.
    """
    return f"{os.fspath(prefix)}.manifest.json"


def write_manifest(
    prefix, kind, entries, settings, vocabulary_sha256=None, counts=None, damaged=()
):
    """Writes the manifest of a data set.

    Args:
        prefix: str, of the shards, local or `gs://`.
        kind: str, `DOCUMENTS`, `TEXT_EXAMPLES` or `IMAGES`.
        entries: list of dict, the `entry` of each shard's file in order, see `shard_files`.
        settings: JSON-serializable dict.
        vocabulary_sha256: str, or None.
        counts: dict of str to int, besides the number of records.
        damaged: list of dicts with `file`, `record` and `reason`.
    """
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "settings": settings,
        "vocabulary_sha256": vocabulary_sha256,
        "counts": {"records": sum(entry["records"] for entry in entries), **(counts or {})},
        "damaged": list(damaged),
        "shards": list(entries),
    }
    # One shard per line: this is readable, and an index does not take one line per value.
    text = json.dumps({**manifest, "shards": []}, indent=1)
    shards = ",\n".join("  " + json.dumps(entry, separators=(",", ":")) for entry in entries)
    text = text.removesuffix("[]\n}") + f"[\n{shards}\n ]\n}}\n"
    write_atomically(manifest_path(prefix), text)


def read_manifest(prefix: str) -> dict | None:
    """Reads the manifest of the shards of a prefix, local or `gs://`; None where there is none.

    Raises:
        ValueError: it is damaged, or of another version.
    """
    import tensorflow as tf

    path = manifest_path(prefix)
    try:
        with tf.io.gfile.GFile(path) as stream:
            manifest = json.load(stream)
    except tf.errors.NotFoundError:
        return None
    except (ValueError, RecursionError):
        manifest = None
    if not _is_whole(manifest):
        raise ValueError(f"{path} is damaged, or no manifest of version {VERSION}")
    return manifest


def _is_whole(manifest):
    """Whether a manifest has all fields, and its shards' numbers do not contradict each other."""
    if not _has_fields(manifest, _FIELDS):
        return False
    if (manifest.get("format"), manifest.get("version")) != (FORMAT, VERSION):
        return False
    least = 1 if manifest["kind"] == DOCUMENTS else HEADER_BYTES + FOOTER_BYTES  # of a record
    return all(
        _has_fields(entry, _SHARD_FIELDS)
        and _is_index([*entry["index"], [entry["records"], entry["bytes"]]], least)
        for entry in manifest["shards"]
    )


def _has_fields(fields, types):
    return isinstance(fields, dict) and all(
        isinstance(fields.get(name, ...), kind) for name, kind in types.items()
    )


def _is_index(places, least):
    """Whether pairs of a record and its offset ascend from 0, at least `least` bytes a record."""
    if any(not isinstance(place, list) or [*map(type, place)] != [int, int] for place in places):
        return False
    steps = itertools.pairwise(places)
    return places[0] == [0, 0] and (
        places[-1] == [0, 0] or all(n < m and b - a >= least * (m - n) for (n, a), (m, b) in steps)
    )
