import json

import pytest

from pipelines.shards.shard_files import write_shards
from pipelines.shards.shard_manifest import manifest_path, read_manifest, write_manifest

ENTRY = {"name": "x-0", "records": 3, "bytes": 60, "sha256": "ab", "index": [[0, 0], [2, 32]]}


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


def test_it_is_json_of_one_line_a_shard(tmp_path):
    entries = [{**ENTRY, "name": f"x-{n}", "index": [[0, 0], [1, 16 + n]]} for n in range(3)]
    write_manifest(tmp_path / "x", "documents", entries, {"pair": (1, 2)}, damaged=[{"file": "a"}])
    text = (tmp_path / "x.manifest.json").read_text()
    assert json.loads(text) == read_manifest(tmp_path / "x")
    lines = [line.strip(" ,") for line in text.splitlines()]
    assert [json.loads(line) for line in lines if line.startswith('{"name')] == entries
    assert read_manifest(tmp_path / "x")["damaged"] == [{"file": "a"}]


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: {**manifest, "version": 2},
        lambda manifest: {"format": "other"},
        lambda manifest: [manifest],
    ],
)
def test_other_files_are_refused(tmp_path, change):
    write_manifest(tmp_path / "x", "images", [], {})
    path = tmp_path / "x.manifest.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ValueError, match=f"^{path} "):
        read_manifest(tmp_path / "x")


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_one_is_told(tmp_path, content):
    (tmp_path / "x.manifest.json").write_bytes(content)
    with pytest.raises(ValueError, match="x.manifest.json is damaged"):
        read_manifest(tmp_path / "x")
