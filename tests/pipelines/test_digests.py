import hashlib

import pytest

from pipelines import digests


def test_sums_tell_what_has_changed(tmp_path):
    path = tmp_path / "deep" / "b.bin"
    path.parent.mkdir()
    path.write_bytes(b"content")
    digests.check_sums(tmp_path)  # there are none
    digests.write_sums(tmp_path)
    known = hashlib.sha256(b"content").hexdigest()
    assert (tmp_path / digests.SUMS).read_text() == f"{known}  deep/b.bin\n"
    (tmp_path / "README.md").write_text("of a person")
    digests.check_sums(tmp_path)
    path.write_bytes(b"contenT")
    with pytest.raises(ValueError, match="deep/b.bin is not what sha256sums.txt says"):
        digests.check_sums(tmp_path)
