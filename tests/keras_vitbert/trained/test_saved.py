"""Files of an earlier state of the project still open, and give the same outputs.

`saved/` was written by commit cdba1c8, before the packages of `keras_vitbert` were laid out anew.
"""

import json
import pathlib
import shutil

import numpy as np
import pytest

from tests.keras_vitbert.trained.make_saved import all_answers, keras_file_answers

SAVED = pathlib.Path(__file__).parent / "saved"


@pytest.fixture(scope="module")
def wanted():
    return json.loads((SAVED / "answers.json").read_text())


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A copy that may be written to, as the present folder."""
    shutil.copytree(SAVED, tmp_path / "saved")
    monkeypatch.chdir(tmp_path / "saved")


def numbers_of(answers):
    """The names apart from the numbers: (list of str, list of float), in order."""
    rows = [pair for row in answers for some in row for pair in some]
    return [name for name, _ in rows], [number for _, number in rows]


@pytest.mark.slow
def test_runs_presets_and_exports_answer_as_before(saved, wanted):
    found = all_answers(".", "image.jpg")
    assert set(found) == set(wanted) - {"network.keras"}
    for name, answers in found.items():
        names, numbers = numbers_of(answers)
        wanted_names, wanted_numbers = numbers_of(wanted[name])
        assert names == wanted_names, name
        assert numbers == pytest.approx(wanted_numbers, rel=1e-5), name


def test_a_keras_file_loads_as_before(wanted):
    import keras_vitbert

    assert keras_vitbert.PreTrainingNetwork  # importing it registers the classes
    found = keras_file_answers(SAVED / "network.keras")
    assert set(found) == {"image_logits", "mlm_logits", "nsp_logits"}
    for name, logits in found.items():
        np.testing.assert_allclose(logits, wanted["network.keras"][name], rtol=1e-5, atol=1e-6)
