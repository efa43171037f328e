import json

import pytest

from pipelines.command_line import UserError
from pipelines.shards.shard_manifest import manifest_path, read_manifest, write_manifest
from pipelines.shards.tfrecords import write_shards


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
    entries = [{"name": f"x-{n}", "records": n, "index": [[0, 0], [n, 99]]} for n in range(3)]
    write_manifest(tmp_path / "x", "documents", entries, {"pair": (1, 2)}, damaged=[{"file": "a"}])
    text = (tmp_path / "x.manifest.json").read_text()
    assert json.loads(text) == read_manifest(tmp_path / "x")
    lines = [line.strip(" ,") for line in text.splitlines()]
    assert [json.loads(line) for line in lines if line.startswith('{"name')] == entries
    assert read_manifest(tmp_path / "x")["damaged"] == [{"file": "a"}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: {**manifest, "version": 2}, "has version 2, this program reads 1; upd"),
        (lambda manifest: {"format": "other"}, "is not a manifest of this project"),
        (lambda manifest: [manifest], "is not a manifest of this project"),
        (lambda manifest: {k: v for k, v in manifest.items() if k != "counts"}, "(no counts)"),
    ],
)
def test_other_files_are_refused(tmp_path, change, message):
    write_manifest(tmp_path / "x", "images", [], {})
    path = tmp_path / "x.manifest.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(UserError) as caught:
        read_manifest(tmp_path / "x")
    assert f"{path} " in str(caught.value) and message in str(caught.value)


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe"])
def test_a_damaged_one_is_told(tmp_path, content):
    (tmp_path / "x.manifest.json").write_bytes(content)
    with pytest.raises(UserError, match="x.manifest.json is damaged"):
        read_manifest(tmp_path / "x")
