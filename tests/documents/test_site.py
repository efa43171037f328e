"""The documentation site: `docs/mkdocs_hooks.py` adds the config reference and the API pages."""

import importlib.util
import re
import subprocess
import sys

import pytest

from keras_vitbert.configs.fine_tuning import ImageTask, TextTask
from keras_vitbert.configs.pretraining import Pretraining
from keras_vitbert.configs.sections import flatten
from tests.documents.markdown import ROOT

PACKAGES = ("keras_vitbert", "pipelines", "tpu")


@pytest.fixture
def hooks():
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "mkdocs_hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_has_every_config_field(hooks):
    tables = hooks.config_reference().split("\n## ")[1:]
    configs = (Pretraining(), ImageTask(task="cifar10"), TextTask(task="sst2"))
    for table, config in zip(tables, configs, strict=True):
        listed = re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)
        assert sorted(listed) == sorted(flatten(config))
    assert "| `optimizer.beta_1` | `0.9` | [0, 1) | Of AdamW, LAMB and Lion" in tables[0]


@pytest.mark.thorough
def test_the_site_has_a_page_of_every_module(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", f"--site-dir={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    wanted = {
        path.relative_to(ROOT).with_suffix("")
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__main__.py"  # a command without an API, which pdoc leaves out
    }
    wanted = {path.parent if path.name == "__init__" else path for path in wanted}
    api = tmp_path / "api"
    pages = {path.relative_to(api).with_suffix("") for path in api.rglob("*.html")}
    assert wanted <= pages, f"no page of {sorted(map(str, wanted - pages))}"
    assert "eq. 8" in (api / "keras_vitbert" / "merging" / "masks.html").read_text()
    public = (api / "keras_vitbert.html").read_text()
    assert 'id="load"' in public and 'id="ViTBertBackbone"' in public
