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

from pipelines.command_line import one_line
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


def read_manifest(prefix):
    """Reads the manifest of a prefix.

    Args:
        prefix: str, of the shards, local or `gs://`.

    Returns:
        dict, see above, or None where there is none.

    Raises:
        ValueError: it is damaged, or of a later version.
    """
    import tensorflow as tf

    path = manifest_path(prefix)
    try:
        with tf.io.gfile.GFile(path) as stream:
            manifest = json.load(stream)
    except tf.errors.NotFoundError:
        return None
    except tf.errors.OpError as error:
        raise ValueError(f"{path}: cannot be read ({one_line(error)}); fix the path") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); remove it, or write the data again"
        ) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{path} is not a manifest of this project; move it elsewhere")
    if manifest.get("version") != VERSION:
        raise ValueError(
            f"{path} has version {manifest.get('version')}, this program reads {VERSION}; update "
            "keras-vitbert or write the data again"
        )
    if problem := next(_problems(manifest), None):
        raise ValueError(f"{path} is damaged ({problem}); remove it, or write the data again")
    return manifest


def _problems(manifest):
    """Yields what is wrong with the fields of a manifest; only the first problem counts."""
    yield from _type_problems(manifest, _FIELDS)
    least = 1 if manifest["kind"] == DOCUMENTS else HEADER_BYTES + FOOTER_BYTES  # of a record
    for entry in manifest["shards"]:
        yield from _type_problems(entry, _SHARD_FIELDS)
        places = [*entry["index"], [entry["records"], entry["bytes"]]]
        if not _is_index(places, least):
            yield f"records, bytes and index of {entry['name']} contradict each other"


def _type_problems(fields, types):
    if not isinstance(fields, dict):
        yield "a shard is not an object"
    for name, kind in types.items():
        if name not in fields:
            yield f"no {name}"
        if not isinstance(fields[name], kind):
            yield f"{name} is {str(fields[name])[:40]!r}"


def _is_index(places, least):
    """Whether pairs of a record and its offset ascend from 0, at least `least` bytes a record."""
    if any(not isinstance(place, list) or [*map(type, place)] != [int, int] for place in places):
        return False
    steps = itertools.pairwise(places)
    return places[0] == [0, 0] and (
        places[-1] == [0, 0] or all(n < m and b - a >= least * (m - n) for (n, a), (m, b) in steps)
    )
