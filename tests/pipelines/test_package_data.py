import os
import sys

import pytest

from pipelines.package_data import find_package_file


def test_a_file_of_a_package_is_found_without_importing_it(tmp_path, monkeypatch):
    (tmp_path / "some_package" / "data").mkdir(parents=True)
    (tmp_path / "some_package" / "__init__.py").write_text("raise AssertionError('imported')")
    (tmp_path / "some_package" / "data" / "table.csv").write_text("1,2")
    monkeypatch.syspath_prepend(tmp_path)
    found = find_package_file("some_package", "data/table.csv")
    assert os.path.samefile(found, tmp_path / "some_package" / "data" / "table.csv")
    assert "some_package" not in sys.modules


def test_missing_packages_are_named():
    for package, path in (("no_such_package", "a/b.csv"), ("mlxtend", "data/no_such_file")):
        with pytest.raises(ValueError, match=rf"{package}/{path} .*\[sample\]"):
            find_package_file(package, path)
