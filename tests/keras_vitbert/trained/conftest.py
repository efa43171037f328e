"""Fixtures of the tests of trained models: stored ones that are changed, and what is refused."""

import json
import shutil

import pytest
import safetensors.numpy

from tests.keras_vitbert.trained.stored_models import FIXTURES


@pytest.fixture
def changed(tmp_path):
    """`changed(name, config, tensors, **files) -> folder` of a stored model.

    A tensor that is None is left out. A file is JSON, and named without its suffix.
    """

    def changed(name, config=None, tensors=None, **files):
        folder = tmp_path / name
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(FIXTURES / name, folder)
        files["config"] = json.loads((folder / "config.json").read_text()) | (config or {})
        for file, content in files.items():
            (folder / f"{file}.json").write_text(json.dumps(content))
        if tensors:
            path = folder / "model.safetensors"
            found = safetensors.numpy.load_file(path) | tensors
            found = {name: value for name, value in found.items() if value is not None}
            safetensors.numpy.save_file(found, path)
        return folder

    return changed


@pytest.fixture
def refused():
    """`refused(path, culprit)`: no model is opened there, and one line names both."""
    from keras_vitbert import load

    def refused(path, culprit):
        with pytest.raises(ValueError, match=culprit) as error:
            load(str(path))
        assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)

    return refused
