"""The command; what a manifest says is tested with its writers and readers."""

import json

from pipelines import command_line, manifest
from pipelines.shards.records import RecordFiles
from pipelines.shards.shard_files import to_example, write_shards


def run(*argv):
    return command_line.run(manifest.main, list(argv))


def test_existing_files_get_a_manifest_and_are_checked_against_it(tmp_path, capsys):
    images = [to_example({"image/encoded": b"x" * n, "image/class/label": 1}) for n in range(9)]
    write_shards(images, str(tmp_path / "image"), 2)
    written = (tmp_path / "image.manifest.json").read_bytes()
    (tmp_path / "image.manifest.json").unlink()
    before, files = RecordFiles.find(f"{tmp_path}/image-*"), f"--files={tmp_path}/image-*"
    assert run(files, "--check") == 2
    assert "image.manifest.json: does not exist" in capsys.readouterr().err
    assert run(files) == 0
    after = RecordFiles.find(f"{tmp_path}/image-*")
    assert after == before and after.manifests and not before.manifests
    assert manifest.read_manifest(f"{tmp_path}/image")["shards"] == (json.loads(written)["shards"])
    assert run(files, "--check") == 0
    path = tmp_path / "image-00001-of-00002"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    assert run(files, "--check") == 2
    assert f"{path} is not what was written" in capsys.readouterr().err
    path.unlink()
    assert run(files, "--check") == 2
    assert f"{path} is missing, but listed in" in capsys.readouterr().err
