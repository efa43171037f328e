import os
import sys

import pytest

from pipelines.package_data import find_package_file


def test_a_file_of_a_package_is_found_without_importing_it(tmp_path, monkeypatch):
    (tmp_path / "some_package").mkdir()
    (tmp_path / "some_package" / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    found = find_package_file("some_package", "__init__.py")
    assert os.path.samefile(found, tmp_path / "some_package" / "__init__.py")
    assert "some_package" not in sys.modules
    with pytest.raises(ValueError, match=r"no_such_package/a.csv .*\[sample\]"):
        find_package_file("no_such_package", "a.csv")
