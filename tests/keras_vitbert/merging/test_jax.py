"""What is written in `keras.ops` gives the same on JAX: merges and masks.

So do their random numbers.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.documents.markdown import Document
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


TRAINING = """
import numpy as np
numbers = np.random.default_rng(0)
x = numbers.normal(size=(40, 64)).astype("float32")
digits, parities = numbers.integers(0, 10, 40), numbers.integers(0, 2, (40, 1)).astype("float32")
losses = [np.array(train_step(x, digits, parities)) for _ in range(30)]
assert keras.backend.backend() == "jax" and (losses[-1] < 0.5 * losses[0]).all(), losses
"""


@pytest.mark.slow
def test_the_step_of_the_page_trains_both_tasks():
    [block] = Document(ROOT / "docs" / "merging.md").blocks("py")
    environment = {**os.environ, **ENVIRONMENT}
    script = block.text + TRAINING
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, check=True)
