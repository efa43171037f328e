import json

import pytest

from pipelines.shards.shard_files import write_shards
from pipelines.shards.shard_manifest import manifest_path, read_manifest, write_manifest


def test_the_manifest_says_what_was_written(tmp_path):
    write_shards(
        map(b"record %d".__mod__, range(5)),
        str(tmp_path / "x"),
        2,
        kind="text examples",
        settings={"length": 5},
        vocabulary_sha256="ab",
        counts={"tokens": 9},
    )
    manifest = read_manifest(str(tmp_path / "x"))
    assert manifest["settings"] == {"length": 5} and manifest["vocabulary_sha256"] == "ab"
    assert manifest["counts"] == {"records": 5, "tokens": 9} and manifest["damaged"] == []
    assert [entry["records"] for entry in manifest["shards"]] == [3, 2]
    sizes = [(tmp_path / entry["name"]).stat().st_size for entry in manifest["shards"]]
    assert [entry["bytes"] for entry in manifest["shards"]] == sizes
    assert read_manifest(str(tmp_path / "y")) is None
    assert manifest_path("a/b") == "a/b.manifest.json"
    assert manifest["kind"] == "text examples"


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: {**manifest, "version": 2},
        lambda manifest: [manifest],
    ],
)
def test_other_files_are_refused(tmp_path, change):
    write_manifest(tmp_path / "x", "images", [], {})
    path = tmp_path / "x.manifest.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ValueError, match=f"^{path} "):
        read_manifest(tmp_path / "x")
