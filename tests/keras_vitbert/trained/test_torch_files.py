"""`pytorch_model.bin`: read as tensors and nothing else, where torch is installed."""

import os

import pytest
import safetensors.numpy

from keras_vitbert.trained import hugging_face
from tests.keras_vitbert.trained.stored_models import FIXTURES


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
def in_torch(changed, torch):
    """`in_torch(name, dtype) -> folder` of a stored model whose weights torch has written.

    They are parameters, as in a file that is no `state_dict`.
    """

    def in_torch(name, dtype=None):
        folder = changed(name)
        path = folder / "model.safetensors"
        tensors = {
            name: torch.nn.Parameter(torch.tensor(value).to(dtype))
            for name, value in safetensors.numpy.load_file(path).items()
        }
        torch.save(tensors, folder / "pytorch_model.bin")
        path.unlink()
        return folder

    return in_torch


def test_the_same_as_in_safetensors(in_torch, torch):
    """NumPy has no bfloat16 of torch's."""
    found = hugging_face.read_tensors(str(in_torch("vit", torch.bfloat16)))
    wanted = safetensors.numpy.load_file(FIXTURES / "vit" / "model.safetensors")
    assert found.keys() == wanted.keys()
    for key, value in found.items():
        rounded = torch.tensor(wanted[key]).bfloat16().float().numpy()
        assert value.dtype == "float32" and (value == rounded).all()


def test_code_is_not_run(in_torch, torch, refused, tmp_path):
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
    refused(folder, r"torch 2\.5\.1\+cpu")
