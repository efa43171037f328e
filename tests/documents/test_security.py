"""What docs/security.md promises: files of strangers run nothing, and no socket takes commands."""

import ast
import io
import json
import os
import pathlib
import tarfile

import keras
import keras_hub
import numpy as np
import pytest

from keras_vitbert.inspection.values import read_values
from keras_vitbert.trained import finding, hugging_face
from keras_vitbert.trained.finding import GOOGLE_VIT, PRESET, Source
from keras_vitbert.trained.loading import open_source
from pipelines.images.image_sources import list_validation_tar
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
    """Names of classes of Keras that a preset may not have, and their configs."""
    layer = keras.layers.Lambda(lambda x, mkdir=os.mkdir: (mkdir(path), x)[1], output_shape=(2,))
    model = keras.Sequential([layer])
    for module, name in (("os", "mkdir"), ("os", "system"), ("subprocess", "call")):
        config = {"path": path} if name == "mkdir" else {"command": path, "args": [path]}
        yield {"module": module, "class_name": name, "config": config, "registered_name": name}
    yield json.loads(json.dumps(keras.saving.serialize_keras_object(model)))


@pytest.mark.parametrize("number", range(4))
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
    source = Source(PRESET, str(tmp_path), "preset", task)
    with pytest.raises(ValueError, match="^preset: "):
        open_source(source)
    assert not (tmp_path / "ran").exists()


def test_a_hugging_face_model_names_no_file_outside_its_folder(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "secret.safetensors").write_bytes(b"x")
    index = {"weight_map": {"a": "../secret.safetensors"}}
    (tmp_path / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="secret.safetensors"):
        hugging_face.read_tensors(str(tmp_path / "model"))


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_no_programs_are_fetched(weights, monkeypatch, tmp_path):
    """Files of torch, which its own reader restricts to tensors, only if there are no others."""
    asked = []

    def fetch(name, allow_patterns):
        asked.append({pathlib.PurePath(pattern).suffix for pattern in allow_patterns})
        if pathlib.PurePath(weights).suffix in asked[-1]:
            (tmp_path / weights).touch()
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert finding._fetch("hf://somebody/model") == str(tmp_path)
    usual = {".json", ".txt", ".safetensors", ".h5"}
    assert asked == ([usual] if weights == "model.safetensors" else [usual, {".bin"}])


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


def test_nothing_is_unpacked_from_tar_files(tmp_path):
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in" / "images.tar", "w") as tar:
        for name in ("../outside.JPEG", f"{tmp_path}/absolute.JPEG"):
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
    (tmp_path / "in" / "labels.txt").write_text("cat\ndog\n")
    paths = [str(tmp_path / "in" / name) for name in ("images.tar", "labels.txt")]
    images, _ = list_validation_tar(*paths)
    assert len(images) == 2
    assert os.listdir(tmp_path) == ["in"] and len(os.listdir(tmp_path / "in")) == 2


# What would run what a file says, take what comes over a network, or turn a check off.
FORBIDDEN_CALLS = {
    *("eval", "exec", "extractall", "extract", "listen", "bind", "create_server"),
    *("enable_unsafe_deserialization", "Listener", "SyncManager", "unsafe_load", "system"),
}
FORBIDDEN_OPTIONS = {"shell", "allow_pickle", "trust_remote_code"}
FORBIDDEN_IMPORTS = {
    "pickle",
    "marshal",
    "shelve",
    "dill",
    "cloudpickle",
    "yaml",
    "joblib",
    "torch",
}
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
                    found |= {(name, root) for root in roots & FORBIDDEN_IMPORTS}
                if isinstance(node, ast.Call):
                    called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                    found |= {(name, called)} if called in FORBIDDEN_CALLS else set()
                    if ast.unparse(node.func) == "torch.load" and not any(
                        option.arg == "weights_only"
                        and getattr(option.value, "value", None) is True
                        for option in node.keywords
                    ):
                        found.add((name, "torch.load"))
                    for option in node.keywords:
                        value = getattr(option.value, "value", None)
                        if (option.arg in FORBIDDEN_OPTIONS and value is not False) or (
                            option.arg == "safe_mode" and value is not True
                        ):
                            found.add((name, option.arg))
    assert found == ALLOWED
