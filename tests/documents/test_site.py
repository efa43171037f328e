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


def test_the_reference_has_every_config_field():
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "mkdocs_hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    tables = hooks.config_reference().split("\n## ")[1:]
    configs = (Pretraining(), ImageTask(task="cifar10"), TextTask(task="sst2"))
    for table, config in zip(tables, configs, strict=True):
        listed = re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)
        assert sorted(listed) == sorted(flatten(config))
    assert "| `optimizer.beta_1` | `0.9` | [0, 1) | Of AdamW, LAMB and Lion" in tables[0]


@pytest.mark.thorough
def test_the_site_is_built_with_pages_of_modules(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", f"--site-dir={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    api = tmp_path / "api"
    assert "eq. 8" in (api / "keras_vitbert" / "merging" / "masks.html").read_text()
    assert 'id="ViTBertBackbone"' in (api / "keras_vitbert.html").read_text()
