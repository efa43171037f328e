"""The documentation site: `docs/mkdocs_hooks.py` adds the config reference."""

import re
import runpy

from keras_vitbert.configs.fine_tuning import ImageTask, JointTasks, TextTask
from keras_vitbert.configs.pretraining import Pretraining
from keras_vitbert.configs.sections import flatten
from tests.documents.markdown import ROOT


def test_the_reference_has_every_config_field():
    hooks = runpy.run_path(str(ROOT / "docs" / "mkdocs_hooks.py"))
    tables = hooks["config_reference"]().split("\n## ")[1:]
    configs = (Pretraining(), ImageTask(task="cifar10"), TextTask(task="sst2"), JointTasks())
    for table, config in zip(tables, configs, strict=True):
        listed = re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)
        assert sorted(listed) == sorted(flatten(config))
    assert "| `optimizer.beta_1` | `0.9` | [0, 1) | Of AdamW, LAMB and Lion" in tables[0]
