"""The documentation site: what `docs/mkdocs_hooks.py` adds."""

import inspect
import re
import runpy
import types

import pytest

from keras_vitbert.configs.fine_tuning import ImageTask, JointTasks, TextTask
from keras_vitbert.configs.pretraining import Pretraining
from keras_vitbert.configs.sections import flatten
from tests.documents.markdown import ROOT

HOOKS = str(ROOT / "docs" / "mkdocs_hooks.py")


def test_the_reference_has_every_config_field():
    hooks = runpy.run_path(HOOKS)
    tables = hooks["config_reference"]().split("\n## ")[1:]
    configs = (Pretraining(), ImageTask(task="cifar10"), TextTask(task="sst2"), JointTasks())
    for table, config in zip(tables, configs, strict=True):
        listed = re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)
        assert sorted(listed) == sorted(flatten(config))
    assert "| `optimizer.beta_1` | `0.9` | [0, 1) | Of AdamW, LAMB and Lion" in tables[0]


@pytest.mark.parametrize(
    ("link", "on_the_site"),
    [
        ("[`Merge`](../keras_vitbert/merging/merge.py)", "keras_vitbert/merging/merge.html#Merge"),
        ("[`other`](../keras_vitbert/merging/merge.py)", "keras_vitbert/merging/merge.html"),
        ("[Merge](../keras_vitbert/merging/merge.py)", "keras_vitbert/merging/merge.html"),
        ("[gradients](merging.md#masks)", "../merging.md#masks"),
    ],
)
def test_links_lead_to_the_name_in_their_text(link, on_the_site):
    hooks, config = runpy.run_path(HOOKS), types.SimpleNamespace(repo_url="")
    page = types.SimpleNamespace(file=types.SimpleNamespace(src_uri="api/index.md"))
    made = {
        "api/keras_vitbert/merging/merge.html": '<section id="Merge">',
        "merging.md": "",
    }
    files = types.SimpleNamespace(
        get_file_from_path=lambda path: (
            path in made and types.SimpleNamespace(content_string=made[path])
        )
    )
    text = link.partition("]")[0]
    found = hooks["on_page_markdown"](link, page, config, files)
    assert found == f"{text}]({on_the_site})"


def test_examples_in_docstrings_of_modules_are_code():
    """Python cuts off an indentation that all lines share, and code becomes a paragraph."""
    for package in ("keras_vitbert", "pipelines", "tpu"):
        for path in (ROOT / package).rglob("*.py"):
            docstring = inspect.cleandoc(path.read_text().split('"""')[1])
            assert not re.search(r"^(\w+ = \w+\(|import |python -m )", docstring, re.M), path
