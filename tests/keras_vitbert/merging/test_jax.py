"""What is written in `keras.ops` gives the same on JAX: merges and masks.

So do their random numbers.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.documents.markdown import DOCUMENTS
from tests.keras_vitbert.jax_process import ENVIRONMENT, ROOT
from tests.keras_vitbert.merging import method_script


@pytest.mark.slow
def test_the_method(tmp_path):
    subprocess.run(
        [sys.executable, "-m", method_script.__name__, str(tmp_path / "found.npz")],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        check=True,
    )
    found = dict(np.load(tmp_path / "found.npz"))
    assert found.pop("backend") == "jax"
    expected = method_script.results()
    assert found.keys() == expected.keys() and len(found) > 200
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=2e-6, err_msg=name)


LEARNS = """
from sklearn.datasets import load_digits
images, labels = load_digits(return_X_y=True)
targets = {"digit": labels, "parity": (labels % 2)[:, None]}
histories = []
for _ in range(20):
    found, values = step(values, images / 16, targets)
    histories.append(list(map(float, found)))
assert all(after < 0.9 * before for before, after in zip(histories[0], histories[-1], strict=True))
for variable, value in zip(state, values, strict=True):
    variable.assign(value)
assert int(optimizer.iterations) == 20 and merge.values()["merge/cosine"] != 0
"""


@pytest.mark.slow
def test_the_step_on_the_page_of_merging():
    [page] = (document for document in DOCUMENTS if document.path.name == "merging.md")
    [block] = page.blocks("py")
    environment = {**os.environ, **ENVIRONMENT}
    program = [sys.executable, "-c", block.text + LEARNS]
    done = subprocess.run(program, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
