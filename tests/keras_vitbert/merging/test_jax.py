"""What is written in `keras.ops` gives the same on JAX: merges and masks.

So do their random numbers.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

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
