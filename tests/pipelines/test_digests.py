import subprocess

import pytest

from pipelines import digests


def test_sums_tell_what_has_changed(tmp_path):
    path = tmp_path / "deep" / "b.bin"
    path.parent.mkdir()
    path.write_bytes(b"content")
    digests.check_sums(tmp_path)  # there are none
    digests.write_sums(tmp_path)
    done = subprocess.run(["sha256sum", "--check", digests.SUMS], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0 and done.stdout.count(b": OK") == 1
    (tmp_path / "README.md").write_text("of a person")
    digests.check_sums(tmp_path)
    path.write_bytes(b"contenT")
    with pytest.raises(ValueError, match="deep/b.bin is not what sha256sums.txt says"):
        digests.check_sums(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="b.bin"):
        digests.check_sums(tmp_path)
