"""What a data set is made of, in `PREFIX.manifest.json` beside its shards.

Training uses the manifest to seek: it tells where records lie. Files that differ from it are
refused.

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

import json
import os

from pipelines.command_line import UserError
from pipelines.files import write_atomically

FORMAT, VERSION = "keras_vitbert shards", 1
DOCUMENTS, TEXT_EXAMPLES, IMAGES = "documents", "text examples", "images"  # kinds
_FIELDS = ("kind", "settings", "vocabulary_sha256", "counts", "damaged", "shards")


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
        entries: list of dict, `entry` of each shard's file in order, see `shard_files`.
        settings: dict that JSON can hold.
        vocabulary_sha256: str, or None.
        counts: dict of str to int, beside the number of records.
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
    # A shard a line: that is readable, and indices do not take a line a value.
    text = json.dumps({**manifest, "shards": []}, indent=1)
    shards = ",\n".join("  " + json.dumps(entry, separators=(",", ":")) for entry in entries)
    text = text.removesuffix("[]\n}") + f"[\n{shards}\n ]\n}}\n"
    write_atomically(manifest_path(prefix), text)


def read_manifest(prefix):
    """Reads the manifest of a prefix.

    Args:
        prefix: str, of the shards, local or `gs://`.

    Returns:
        dict, see above, or None where there is none.

    Raises:
        UserError: it is damaged, or of a later version.
    """
    import tensorflow as tf

    path = manifest_path(prefix)
    try:
        with tf.io.gfile.GFile(path) as stream:
            manifest = json.load(stream)
    except tf.errors.NotFoundError:
        return None
    except (ValueError, tf.errors.OpError) as error:
        raise UserError(
            f"{path} is damaged ({error}); remove it, or write the data again"
        ) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{path} is not a manifest of this project; move it elsewhere")
    if manifest.get("version") != VERSION:
        raise UserError(
            f"{path} has version {manifest.get('version')}, this program reads {VERSION}; update "
            "keras-vitbert or write the data again"
        )
    missing = [field for field in _FIELDS if field not in manifest]
    if missing:
        raise UserError(f"{path} is damaged (no {missing[0]}); write the data again")
    return manifest
