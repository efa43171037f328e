"""What docs/security.md promises: files of strangers run nothing, and no socket takes commands."""

import ast
import json
import os
import pathlib

import keras
import keras_hub
import numpy as np
import pytest

from keras_vitbert.inspection.values import read_values
from keras_vitbert.trained import finding, hugging_face
from keras_vitbert.trained.finding import GOOGLE_VIT, PRESET, Source
from keras_vitbert.trained.loading import open_source
from pipelines.prepare.wikipedia import Page, read_pages
from tests.documents.markdown import ROOT


class Runs:
    """Unpickled, it makes the folder `path`."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_arrays_are_not_unpickled(tmp_path):
    bad = np.array([Runs(tmp_path / "ran")], dtype=object)
    np.savez(tmp_path / "model.npz", bad=bad)
    (tmp_path / "inspection").mkdir()
    os.link(tmp_path / "model.npz", tmp_path / "inspection" / "masks-00000001.npz")
    with pytest.raises(ValueError, match="allow_pickle"):
        open_source(Source(GOOGLE_VIT, str(tmp_path / "model.npz"), "model.npz"))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_values(str(tmp_path), "masks")
    assert not (tmp_path / "ran").exists()


def nasty(path):
    """Classes of Keras that a preset may not have."""
    layer = keras.layers.Lambda(lambda x, mkdir=os.mkdir: (mkdir(path), x)[1], output_shape=(2,))
    yield json.loads(json.dumps(keras.saving.serialize_keras_object(keras.Sequential([layer]))))
    about = {"module": "os", "class_name": "mkdir", "registered_name": "mkdir"}
    yield {**about, "config": {"path": path}}


@pytest.mark.parametrize("number", range(2))
def test_presets_run_nothing(tmp_path, number):
    task = {
        "module": "keras_hub.src.models.vit.vit_image_classifier",
        "class_name": "ViTImageClassifier",
        "registered_name": "keras_hub>ViTImageClassifier",
    }
    inner = [*nasty(str(tmp_path / "ran"))][number]
    task["config"] = {"backbone": inner, "num_classes": 2, "preprocessor": None}
    versions = {"keras_version": keras.__version__, "keras_hub_version": keras_hub.__version__}
    for name, content in (("task", task), ("config", inner), ("metadata", versions)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="^preset: "):
        open_source(Source(PRESET, str(tmp_path), "preset", task))
    assert not (tmp_path / "ran").exists()


def test_a_hugging_face_model_names_no_file_outside_its_folder(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "secret.safetensors").write_bytes(b"x")
    index = {"weight_map": {"a": "../secret.safetensors"}}
    (tmp_path / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="secret.safetensors"):
        hugging_face.read_tensors(str(tmp_path / "model"))


@pytest.mark.parametrize("weights", [".safetensors", ".bin"])
def test_no_programs_are_fetched(weights, monkeypatch, tmp_path):
    """Files of torch, which its own reader restricts to tensors, only if there are no others."""
    asked = []

    def fetch(name, allow_patterns):
        asked.append({pathlib.PurePath(pattern).suffix for pattern in allow_patterns})
        if weights in asked[-1]:
            (tmp_path / f"model{weights}").touch()
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert finding._fetch("hf://somebody/model") == str(tmp_path)
    usual = {".json", ".txt", ".safetensors", ".h5"}
    assert asked == ([usual] if weights == ".safetensors" else [usual, {".bin"}])


def test_entities_of_a_dump_are_not_expanded(tmp_path):
    (tmp_path / "secret").write_text("secret")
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    page = "<page><title>{0}</title><ns>0</ns><text>{1}</text></page>"
    own = f'<page><!DOCTYPE x [<!ENTITY l0 "ha">{entities}]>'
    path = tmp_path / "dump.xml"
    path.write_text(
        f'<!DOCTYPE x [<!ENTITY l0 "ha"><!ENTITY f SYSTEM "{tmp_path}/secret">]>\n'
        f"<mediawiki>{page.format('Laughs', '&l11;')}{page.format('File', '&f;')}"
        + page.format("Own", "a").replace("<page>", own)
        + page.format("Good", "b")
        + "</mediawiki>"
    )
    damaged = []
    assert list(read_pages(path, damaged=damaged)) == [Page("Good", 0, False, "b")]
    assert [entry["record"] for entry in damaged] == ["page 'Laughs'", "page 'File'", "page 'Own'"]
    assert "undefined entity" in damaged[0]["reason"] and "undefined" in damaged[1]["reason"]


# What would run what a file says, take what comes over a network, or turn a check off.
CALLS = {
    *("eval", "exec", "extractall", "extract", "listen", "bind", "create_server"),
    *("enable_unsafe_deserialization", "Listener", "SyncManager", "unsafe_load", "system"),
}
OPTIONS = {"shell", "allow_pickle", "trust_remote_code"}
IMPORTS = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "yaml", "joblib", "torch"}
ALLOWED = {
    ("keras_vitbert/trained/hugging_face.py", "torch"),  # of which tensors alone are loaded
    ("pipelines/prepare/local_workers.py", "pickle"),  # pipes between a command's processes
    ("tpu/rendezvous.py", "create_server"),  # for one line of greeting
}


def test_no_module_does_what_the_page_rules_out():
    found = set()
    for package in ("keras_vitbert", "pipelines", "tpu"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    modules = [node.module] if isinstance(node, ast.ImportFrom) else []
                    modules += [alias.name for alias in node.names]
                    roots = {(module or "").split(".")[0] for module in modules}
                    found |= {(name, root) for root in roots & IMPORTS}
                if not isinstance(node, ast.Call):
                    continue
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                found |= {(name, called)} if called in CALLS else set()
                given = {o.arg: getattr(o.value, "value", None) for o in node.keywords}
                if ast.unparse(node.func) == "torch.load" and given.get("weights_only") is not True:
                    found.add((name, "torch.load"))
                found |= {
                    (name, option) for option in OPTIONS if given.get(option, False) is not False
                }
                if given.get("safe_mode", True) is not True:
                    found.add((name, "safe_mode"))
    assert found == ALLOWED
