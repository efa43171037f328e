"""The command; what a manifest says is tested with its writers and readers."""

import hashlib

import pytest

from pipelines import command_line, manifest
from pipelines.shards.records import RecordFiles
from pipelines.shards.shard_files import to_example, write_shards


@pytest.fixture
def existing(tmp_path):
    """Two sets of existing files, without manifests."""
    images = [to_example({"image/encoded": b"x" * n, "image/class/label": 1}) for n in range(9)]
    texts = [to_example({"input_word_ids": [n]}) for n in range(5)]
    write_shards(images, str(tmp_path / "image"), 2)
    write_shards(texts, str(tmp_path / "text"), 1)
    for path in tmp_path.glob("*.manifest.json"):
        path.unlink()
    return tmp_path


def run(*argv):
    return command_line.run(manifest.main, list(argv))


def test_existing_files_get_a_manifest(existing, capsys):
    before = RecordFiles.find(f"{existing}/image-*")
    assert run(f"--files={existing}/*") == 0
    assert "image.manifest.json: 2 files" in capsys.readouterr().out
    after = RecordFiles.find(f"{existing}/image-*")
    assert after == before and after.manifests and not before.manifests
    assert RecordFiles.find(f"{existing}/text-*").count == 5
    content = manifest.read_manifest(f"{existing}/image")
    for entry in content["shards"]:
        data = (existing / entry["name"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()


def test_files_are_checked_against_their_manifest(existing, capsys):
    assert run(f"--files={existing}/image-*", "--check") == 2
    assert "image.manifest.json: does not exist" in capsys.readouterr().err
    assert run(f"--files={existing}/image-*") == 0
    assert run(f"--files={existing}/image-*", "--check") == 0
    path = existing / "image-00001-of-00002"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    capsys.readouterr()
    assert run(f"--files={existing}/image-*", "--check") == 2
    assert f"{path} is not what was written" in capsys.readouterr().err
    path.unlink()
    assert run(f"--files={existing}/image-*", "--check") == 2
    error = capsys.readouterr().err
    assert f"{path} is missing, but listed in {existing}/image.manifest.json" in error
