import subprocess

import pytest

from pipelines import digests


def test_sums_tell_what_has_changed(tmp_path):
    for name in ("a.txt", "deep/b.bin"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    digests.check_sums(tmp_path)  # there are none
    digests.write_sums(tmp_path)
    done = subprocess.run(["sha256sum", "--check", digests.SUMS], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0 and done.stdout.count(b": OK") == 2
    digests.check_sums(tmp_path)
    (tmp_path / "README.md").write_text("of a person")
    digests.check_sums(tmp_path)
    (tmp_path / "deep" / "b.bin").write_bytes(b"deep/b.bim")
    with pytest.raises(
        ValueError, match="deep/b.bin is not what sha256sums.txt says; write the fo"
    ):
        digests.check_sums(tmp_path)
    (tmp_path / "deep" / "b.bin").unlink()
    with pytest.raises(FileNotFoundError, match="b.bin"):
        digests.check_sums(tmp_path)
    (tmp_path / digests.SUMS).write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="a file is not what sha256sums.txt says"):
        digests.check_sums(tmp_path)
