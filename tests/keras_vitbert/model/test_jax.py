"""The model also runs on Keras' JAX backend, with the weights that TensorFlow saved."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.keras_vitbert.jax_process import ENVIRONMENT, ROOT


@pytest.fixture(scope="module")
def networks(network, make_network):
    """The paper's architecture, and that of published models."""
    other = {"norm": "post", "text_head": "bert", "prefix_tokens": 2, "image_head": "deit"}
    return {"network": network, "other": make_network(1, activation="gelu_tanh", **other)}


@pytest.fixture(scope="module")
def on_jax(networks, batch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("jax")
    for name, network in networks.items():
        network.save(folder / f"{name}.keras")
    np.savez(folder / "batch.npz", **batch)
    subprocess.run(
        [sys.executable, "-m", "tests.keras_vitbert.model.jax_script", str(folder)],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        check=True,
    )
    return dict(np.load(folder / "outputs.npz"))


@pytest.mark.slow
@pytest.mark.parametrize("which", ["network", "other"])
def test_network(networks, batch, on_jax, which):
    network = networks[which]
    outputs = {**network(batch), **network.backbone(batch)}
    assert len(outputs) == 5
    for name, value in outputs.items():
        found = on_jax[f"{which}_{name}"]
        np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_the_mlps_keep_what_their_activations_are_computed_from(networks, on_jax):
    """And neither the activations nor their derivatives."""
    width, passes = 12, 2 * len(networks["other"].backbone.blocks)
    plain, prepared = (np.count_nonzero(on_jax[n] == width) for n in ("kept", "kept_prepared"))
    assert plain >= 2 * passes and prepared == passes
