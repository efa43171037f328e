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

import json
import os
from collections.abc import Iterable

from pipelines.files import json_object, write_atomically

FORMAT, VERSION = "keras_vitbert shards", 1
DOCUMENTS, TEXT_EXAMPLES, IMAGES = "documents", "text examples", "images"  # kinds


def manifest_path(prefix: str | os.PathLike) -> str:
    """The path of the manifest of the shards of a prefix, local or `gs://`."""
    return f"{os.fspath(prefix)}.manifest.json"


def write_manifest(
    prefix: str | os.PathLike,
    kind: str,
    entries: list[dict],
    settings: dict,
    vocabulary_sha256: str | None = None,
    counts: dict[str, int] | None = None,
    damaged: Iterable[dict] = (),
) -> None:
    """Writes the manifest of a data set from the `LineFile.entry` of each shard, in order."""
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "settings": settings,
        "vocabulary_sha256": vocabulary_sha256,
        "counts": {"records": sum(entry["records"] for entry in entries), **(counts or {})},
        "damaged": list(damaged),
        "shards": [],
    }
    # One shard per line: this is readable, and an index does not take one line per value.
    shards = ",\n".join("  " + json.dumps(entry, separators=(",", ":")) for entry in entries)
    text = json.dumps(manifest, indent=1).removesuffix("[]\n}") + f"[\n{shards}\n ]\n}}\n"
    write_atomically(manifest_path(prefix), text)


def read_manifest(prefix: str | os.PathLike) -> dict | None:
    """Reads the manifest of the shards of a prefix, local or `gs://`; None where there is none."""
    import tensorflow as tf

    path = manifest_path(prefix)
    try:
        with tf.io.gfile.GFile(path, "rb") as stream:
            manifest = json_object(stream.read())
    except tf.errors.NotFoundError:
        return None
    except ValueError:
        manifest = {}
    if (manifest.get("format"), manifest.get("version")) != (FORMAT, VERSION):
        raise ValueError(f"{path} is damaged, or no manifest of version {VERSION}")
    return manifest
