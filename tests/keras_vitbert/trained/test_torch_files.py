"""`pytorch_model.bin`: read as tensors and nothing else, where torch is installed."""

import json
import os

import pytest
import safetensors.numpy

from keras_vitbert.trained import hugging_face
from keras_vitbert.trained.finding import find
from keras_vitbert.trained.loading import open_source
from keras_vitbert.training.distillation import Teacher
from tests.keras_vitbert.trained.stored_models import FIXTURES, assert_close, call, expected, load


class Runs:
    """Unpickled, it makes the folder `path`."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def in_torch(copy, torch):
    """`in_torch(name, shards) -> folder` of a stored model whose weights torch has written."""

    def write(name, shards=1, dtype=None):
        folder = copy(name)
        path = folder / "model.safetensors"
        tensors = {
            name: torch.tensor(value).to(dtype)
            for name, value in safetensors.numpy.load_file(path).items()
        }
        path.unlink()
        if shards == 1:
            torch.save(tensors, folder / "pytorch_model.bin")
            return folder
        weight_map = {}
        for shard in range(shards):
            part = dict(list(tensors.items())[shard::shards])
            file = f"pytorch_model-{shard + 1:05}-of-{shards:05}.bin"
            torch.save(part, folder / file)
            weight_map |= dict.fromkeys(part, file)
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
        return folder

    return write


def refused(folder, message):
    with pytest.raises(ValueError, match=message) as error:
        open_source(find(str(folder)))
    assert "\n" not in str(error.value) and str(error.value).startswith(f"{folder}: ")


def test_integers_are_refused(in_torch, torch):
    refused(in_torch("bert", dtype=torch.int8), "integers")


@pytest.mark.parametrize(("name", "shards"), [("bert", 1), ("vit", 1), ("distilbert", 3)])
def test_the_same_as_in_safetensors(in_torch, name, shards):
    batch, wanted = expected(name)
    teacher = Teacher(open_source(find(str(in_torch(name, shards)))).network)
    logits = call(teacher, batch)
    assert_close(logits, wanted)
    for key, value in call(load(name), batch).items():
        assert (logits[key].numpy() == value.numpy()).all()


def test_half_precision_and_parameters(in_torch, torch):
    """NumPy has no bfloat16 of torch's; a file that is no `state_dict` holds parameters."""
    folder = in_torch("vit", dtype=torch.bfloat16)
    path = folder / "pytorch_model.bin"
    torch.save({n: torch.nn.Parameter(v) for n, v in torch.load(path).items()}, path)
    found = hugging_face.read_tensors(str(folder))
    wanted = safetensors.numpy.load_file(FIXTURES / "vit" / "model.safetensors")
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        rounded = torch.tensor(wanted[name]).bfloat16().float().numpy()
        assert value.dtype == "float32" and (value == rounded).all()


def test_code_is_not_run(in_torch, torch, tmp_path):
    folder = in_torch("vit")
    path, ran = folder / "pytorch_model.bin", tmp_path / "ran"
    for protocol in ({}, {"_use_new_zipfile_serialization": False}):
        for content in (Runs(ran), {"classifier.weight": torch.ones(3, 15), "x": Runs(ran)}):
            torch.save(content, path, **protocol)
            refused(folder, "pytorch_model.bin")
            assert not ran.exists()
    torch.load(path, weights_only=False)  # that would have run it
    assert ran.exists()


def test_an_old_torch_is_refused(in_torch, torch, refused, monkeypatch):
    folder = in_torch("bert")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    refused("text", folder, r"torch 2\.5\.1\+cpu")
