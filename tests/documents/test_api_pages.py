"""The API pages: `docs/make_api_pages.py` makes one of every module, and fails where it cannot."""

import shutil
import subprocess
import sys

import pytest

from tests.documents.markdown import ROOT

SCRIPT = "docs/make_api_pages.py"
PACKAGES = ("keras_vitbert", "pipelines", "tpu")


def make(root, folder):
    return subprocess.run(
        [sys.executable, SCRIPT, str(folder)], cwd=root, capture_output=True, text=True
    )


@pytest.mark.thorough
def test_every_module_has_a_page(tmp_path):
    done = make(ROOT, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    wanted = {
        path.relative_to(ROOT).with_suffix("")
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__main__.py"  # a command without an API, which pdoc leaves out
    }
    wanted = {path.parent if path.name == "__init__" else path for path in wanted}
    pages = {path.relative_to(tmp_path).with_suffix("") for path in tmp_path.rglob("*.html")}
    assert wanted <= pages, f"no page of {sorted(map(str, wanted - pages))}"
    assert "eq. 8" in (tmp_path / "keras_vitbert" / "merging" / "entries.html").read_text()
    public = (tmp_path / "keras_vitbert.html").read_text()
    assert 'id="load"' in public and 'id="ViTBertBackbone"' in public


@pytest.mark.slow
def test_a_broken_page_fails(tmp_path):
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "pipelines" / "broken.py").write_text("import nothing_of_this_name\n")
    done = make(tmp_path, tmp_path / "pages")
    assert done.returncode != 0 and "nothing_of_this_name" in done.stderr
