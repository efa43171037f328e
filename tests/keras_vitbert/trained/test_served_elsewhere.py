"""An exported model answers in a process that has TensorFlow and its text operations only.

SERVING_PYTHON may name the Python of an environment where nothing else is installed; by default it
is this one, where the project's packages are made impossible to import.
"""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.pipelines.image_fixtures import encoded, picture

SCRIPT = pathlib.Path(__file__).with_name("served_script.py")
SIGNATURES = {
    "classify_image": [encoded(picture(seed), "PNG") for seed in range(3)],
    "fill_mask": ["the [MASK] sat", "[MASK] cat [MASK]"],
}


@pytest.mark.slow
def test_a_model_is_served_without_this_project(exported, served, tmp_path):
    requests, answers = tmp_path / "requests.npz", tmp_path / "answers.npz"
    np.savez(requests, **{name: np.array(v, object) for name, v in SIGNATURES.items()})
    # Isolated: neither the working folder nor PYTHONPATH is looked at.
    python = os.environ.get("SERVING_PYTHON", sys.executable)
    model = str(exported / "vitbert" / "1")
    command = [python, "-I", str(SCRIPT), model, str(requests), str(answers)]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300)
    outputs = dict(np.load(answers, allow_pickle=True))
    for signature, values in SIGNATURES.items():
        for key, value in served.functions[signature](tf.constant(values)).items():
            theirs = outputs.pop(f"{signature}/{key}")
            if value.dtype == tf.string:
                assert theirs.tolist() == value.numpy().tolist()
            else:
                np.testing.assert_allclose(theirs, value, atol=1e-5)
    assert not outputs
